// The client runs here, so that the page stays awake while it computes. One call after the other, in the order in which they come.

import init, { open } from "./pkg/lowkey_web.js";

const loaded = init();
let session = null;
let last = Promise.resolve();

const calls = {
  async open(server, digest, model) {
    await loaded;
    const old = session;
    session = null;
    if (old) await old.close().catch(() => {});
    session = await open(server, digest, model);
    return JSON.parse(session.about());
  },
  async prepare() {
    if (session.ready() === 0) await session.prepare();
  },
  async ask(pixels) {
    return JSON.parse(await session.ask(pixels));
  },
};

onmessage = ({ data: { id, call, args } }) => {
  last = last.then(async () => {
    try {
      postMessage({ id, value: await calls[call](...args) });
    } catch (error) {
      postMessage({ id, error: String(error?.message ?? error) });
    }
  });
};
