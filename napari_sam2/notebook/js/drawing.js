// Functions that the other files draw and decode with.
// Everything that comes from files (names, categories) is written as text, never as HTML.

/** Makes an element with a class and a text, if they are given. */
function makeElement(tag, name = "", text = "") {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text) element.textContent = text;
  return element;
}

/** Returns a bytes trait as Uint8Array, or undefined if the kernel has not sent it yet. */
function getBytes(view) {
  return view && new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** Decompresses zlib bytes. */
async function decompress(view) {
  const compressed = new Blob([getBytes(view)]).stream();
  const bytes = compressed.pipeThrough(new DecompressionStream("deflate"));
  return new Response(bytes).arrayBuffer();
}

/** Calls `callback` at once, then at most every `pauseMs`; the last call is never dropped. */
function throttle(callback, pauseMs) {
  let timer = null, waiting = null;
  const callWaiting = () => {
    timer = waiting ? setTimeout(callWaiting, pauseMs) : null;
    if (waiting) callback(...waiting);
    waiting = null;
  };
  return (...values) => {
    if (timer) { waiting = values; return; }
    callback(...values);
    timer = setTimeout(callWaiting, pauseMs);
  };
}

function parseColour(hex) {
  const number = parseInt(hex.slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
}

/** Paints labels on a new canvas: each object in its colour, with a stronger border. */
function paintLabels(labels, width, height, colours, opacity) {
  const image = new ImageData(width, height);
  // 0xAABBGGRR, because every machine with a browser is little-endian
  const pixels = new Uint32Array(image.data.buffer);
  const inside = Math.round(opacity * 255) << 24;
  const border = Math.round(Math.min(1, opacity * 2.2) * 255) << 24;
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const label = labels[at];
      if (!label) continue;
      const edge = (x > 0 && labels[at - 1] !== label)
        || (x < width - 1 && labels[at + 1] !== label)
        || (y > 0 && labels[at - width] !== label)
        || (y < height - 1 && labels[at + width] !== label);
      const [red, green, blue] = colours.get(label) ?? [255, 255, 255];
      pixels[at] = (edge ? border : inside) | (blue << 16) | (green << 8) | red;
    }
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
