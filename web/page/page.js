// What one sees. The client is in worker.js; nothing here or there sends anything but through it.

import { fit, Ink } from "./ink.js";

const $ = (id) => document.getElementById(id);
const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
let calls = 0;
let broken = null;

worker.onmessage = ({ data: { id, value, error } }) => {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error === undefined) resolve(value);
  else reject(new Error(error));
};
worker.onerror = (event) => {
  broken = new Error(event.message || "The client could not be loaded: build it with web/build.sh, and load this page again.");
  for (const { reject } of waiting.values()) reject(broken);
  waiting.clear();
};

const call = (name, ...args) =>
  new Promise((resolve, reject) => {
    if (broken) return reject(broken);
    const id = ++calls;
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, call: name, args });
  });

// Where the server is, and what is expected of it: from the address of the page, or what was seen before.

const given = new URLSearchParams(location.search);
const scheme = location.protocol === "https:" ? "wss" : "ws";
$("server").value = given.get("server") ?? `${scheme}://${location.hostname || "localhost"}:7118`;
$("model").value = given.get("model") ?? "";
$("expected").value = given.get("digest") ?? "";

const noteOf = (server, model) => `lowkey digest ${model}@${server}`;
// On one's own machine servers come and go, and nobody is in between.
const isLoopback = (server) => /^wss?:\/\/(localhost|127\.[\d.]+|\[::1\])(:\d+)?\/?$/.test(server);

function state(name, text) {
  document.body.dataset.state = name;
  if (text !== undefined) $("status").textContent = text;
}

const time = (ms) => (ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(1)} s`);
const short = (number) => number.toFixed(number < 100 ? 1 : 0);
const size = (bytes) => (bytes < 1e6 ? `${short(bytes / 1e3)} kB` : `${short(bytes / 1e6)} MB`);

function cost(row, stage) {
  $(`${row}-ms`).textContent = time(stage.ms);
  $(`${row}-bytes`).textContent = `${size(stage.sent)} out, ${size(stage.received)} in`;
}

let about = null;
let prepared = null;
let answers = 0;
let ink = null;

async function connect() {
  const [server, model] = [$("server").value.trim(), $("model").value.trim()];
  const note = noteOf(server, model);
  const known = isLoopback(server) ? null : localStorage.getItem(note);
  const expected = $("expected").value.trim() || known || "";
  about = null;
  state("connecting", `Connecting to ${server} ...`);
  try {
    about = await call("open", server, expected, model);
    if (!isLoopback(server)) localStorage.setItem(note, about.digest);
    $("name").textContent = about.name;
    $("digest").textContent = about.digest;
    $("pinned").textContent = expected ? "is the expected one." : "was not expected: compare it with what the server's owner says.";
    cost("setup", about.setup);
    const [, height, width] = about.input;
    Object.assign($("read"), { height, width });
    ink.thickness = height;
    bars([]);
    state("preparing", "Connected. Preparing ...");
    await call("prepare");
    state("ready", "Ready: draw.");
  } catch (error) {
    about = null;
    state("failed", error.message);
  }
}

function bars(probabilities) {
  const names = about.classes.length > 0 ? about.classes : probabilities.map((_, index) => String(index));
  $("bars").replaceChildren(
    ...probabilities.slice(0, 10).map((probability, index) => {
      const row = document.createElement("li");
      const [name, bar, share] = ["span", "progress", "span"].map((kind) => document.createElement(kind));
      name.textContent = names[index] ?? index;
      bar.value = probability;
      share.textContent = `${(100 * probability).toFixed(1)} %`;
      row.append(name, bar, share);
      return row;
    }),
  );
}

// In a green that is seen on light and dark grounds.
function preview(pixels, [channels, height, width]) {
  const image = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) image.data.set([47, 143, 120, pixels[i * channels]], 4 * i);
  $("read").getContext("2d").putImageData(image, 0, 0);
}

// Asks for the class of these pixels: height x width x channels bytes, 255 where there is ink.
async function ask(pixels) {
  if (!about) throw new Error("not connected");
  preview(pixels, about.input);
  state("asking", "Asking ...");
  try {
    const answer = await call("ask", pixels);
    const label = answer.name ?? String(answer.class ?? "?");
    $("label").textContent = label;
    $("label").classList.toggle("word", label.length > 2);
    bars(answer.probabilities ?? []);
    cost("online", answer.online);
    cost("offline", answer.offline);
    document.body.dataset.answers = ++answers;
    state("answered", "The server computed this without seeing your drawing or its answer. Draw again.");
    // The next one waits for its drawing only. What fails shows when it is asked for.
    prepared = call("prepare").catch(() => {});
    return answer;
  } catch (error) {
    about = null;
    state("failed", `${error.message} Connect again.`);
    throw error;
  }
}

ink = new Ink($("ink"), () => {
  if (!about) return;
  const pixels = fit($("ink"), about.input);
  if (pixels) ask(pixels).catch(() => {});
});
$("clear").onclick = () => ink.clear();
$("connection").onsubmit = (event) => {
  event.preventDefault();
  connect();
};
if (given.has("server")) connect();

// For the test, and for the curious.
window.lowkey = { ask, fit: () => fit($("ink"), about.input), connect, prepared: () => prepared };
