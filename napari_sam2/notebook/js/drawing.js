// What the other files draw and unpack with.
// Everything that comes from files (names, categories) is written as text, never as HTML.

/** An element with a class and, where given, a text. */
function make(tag, name = "", text = "") {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text) element.textContent = text;
  return element;
}

/** What a bytes trait holds, as Uint8Array; undefined before the kernel has sent it. */
function bytesOf(view) {
  return view && new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** zlib-compressed bytes, unpacked. */
async function unpacked(view) {
  const stream = new Blob([bytesOf(view)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** Calls `act` at once and then at most every `pause` ms, the last call never lost. */
function calmed(act, pause) {
  let timer = null, waiting = null;
  const later = () => {
    timer = waiting ? setTimeout(later, pause) : null;
    if (waiting) act(...waiting);
    waiting = null;
  };
  return (...given) => {
    if (timer) { waiting = given; return; }
    act(...given);
    timer = setTimeout(later, pause);
  };
}

function rgb(hex) {
  const number = parseInt(hex.slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
}

/** Labels as a picture: each object in its colour, its border opaque. */
function paint(labels, width, height, colours, opacity) {
  const picture = new ImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer); // 0xAABBGGRR: every machine with a browser is little-endian
  const inside = Math.round(opacity * 255) << 24, border = Math.round(Math.min(1, opacity * 2.2) * 255) << 24;
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const label = labels[at];
      if (!label) continue;
      const edge = (x > 0 && labels[at - 1] !== label) || (x < width - 1 && labels[at + 1] !== label) ||
        (y > 0 && labels[at - width] !== label) || (y < height - 1 && labels[at + width] !== label);
      const [red, green, blue] = colours.get(label) ?? [255, 255, 255];
      pixels[at] = (edge ? border : inside) | (blue << 16) | (green << 8) | red;
    }
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}
