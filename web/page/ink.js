// Drawing, and what a network reads of it.

// A pause of so many milliseconds ends a drawing.
const PAUSE = 700;

// Strokes on a canvas; `drawn` is called after each pause.
export class Ink {
  constructor(canvas, drawn) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.thickness = 8;
    let from = null;
    let pause = 0;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
    };
    canvas.onpointerdown = (event) => {
      canvas.setPointerCapture(event.pointerId);
      clearTimeout(pause);
      if (this.done) this.clear();
      from = at(event);
      this.line(from, from);
    };
    canvas.onpointermove = (event) => {
      if (!from) return;
      const to = at(event);
      this.line(from, to);
      from = to;
    };
    canvas.onpointerup = canvas.onpointercancel = () => {
      if (!from) return;
      from = null;
      pause = setTimeout(() => {
        this.done = true;
        drawn();
      }, PAUSE);
    };
  }

  // The networks for 8 x 8 pixels know thicker strokes than those for 28 x 28.
  set thickness(height) {
    this.width = this.canvas.height * (height < 16 ? 0.12 : 0.08);
  }

  line([x0, y0], [x1, y1]) {
    const { context } = this;
    // A middle grey, for light and dark grounds; what counts is the coverage.
    context.strokeStyle = getComputedStyle(this.canvas).color;
    context.lineWidth = this.width;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
    context.stroke();
  }

  clear() {
    this.done = false;
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }
}

// The drawing as a network of digits has learnt them: cut out, scaled to one size with its proportions, in the middle. Bytes,
// height x width x channels, 255 where all is ink; null if nothing is drawn.
export function fit(canvas, [channels, height, width]) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const ink = (x, y) => (x < 0 || y < 0 || x >= canvas.width || y >= canvas.height ? 0 : data[4 * (y * canvas.width + x) + 3]);
  const box = bounds(canvas, ink);
  if (!box) return null;
  // The digits of MNIST are 20 of 28 pixels high, with their centre of mass in the middle; those of 8 x 8 fill all of it.
  const small = height < 16;
  const room = small ? Math.min(height, width) : (Math.min(height, width) * 20) / 28;
  const scale = Math.max(box.right - box.left, box.bottom - box.top) / room;
  const [cx, cy] = small ? [(box.left + box.right) / 2, (box.top + box.bottom) / 2] : [box.x, box.y];
  const pixels = new Uint8Array(channels * height * width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const grey = area(ink, cx + (x - width / 2) * scale, cy + (y - height / 2) * scale, scale);
      pixels.fill(grey, channels * (y * width + x), channels * (y * width + x + 1));
    }
  }
  return pixels;
}

// What encloses the ink, right and bottom excluded, and its centre of mass.
function bounds(canvas, ink) {
  const box = { left: canvas.width, top: canvas.height, right: 0, bottom: 0, x: 0, y: 0 };
  let mass = 0;
  for (let y = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++) {
      const here = ink(x, y);
      if (here < 32) continue;
      box.left = Math.min(box.left, x);
      box.right = Math.max(box.right, x + 1);
      box.top = Math.min(box.top, y);
      box.bottom = Math.max(box.bottom, y + 1);
      box.x += here * (x + 0.5);
      box.y += here * (y + 0.5);
      mass += here;
    }
  }
  if (mass === 0) return null;
  box.x /= mass;
  box.y /= mass;
  return box;
}

// The mean of a square, from points in it.
function area(ink, left, top, side) {
  const steps = Math.max(2, Math.ceil(side / 2));
  let sum = 0;
  for (let i = 0; i < steps; i++) {
    for (let j = 0; j < steps; j++) {
      sum += ink(Math.floor(left + ((j + 0.5) * side) / steps), Math.floor(top + ((i + 0.5) * side) / steps));
    }
  }
  return Math.round(sum / steps ** 2);
}
