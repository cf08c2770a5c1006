// The frame that the user clicks on.

const DRAG_PX = 4; // a press that moves less is a click
const MAX_HEIGHT_PX = 560;
const MAX_ZOOM = 32;

/** The frame: image, masks and prompts; clicks, boxes and zoom. */
class Frame {
  constructor(model, send) {
    this.model = model;
    this.send = send;
    this.box = makeElement("div", "sam2-frame");
    this.canvas = makeElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute(
      "aria-label", "frame: click on an object; Alt-click beside it; drag a box around it",
    );
    this.position = makeElement("div", "sam2-position");
    this.box.append(this.canvas, this.position);
    this.zoom = 1;
    this.corner = [0, 0]; // data pixels (x, y) at the top left of the canvas
    this.opacity = 0.35;
    this.listen();
  }

  /** Screen pixels of the canvas per data pixel. */
  get scale() {
    return (this.canvas.width / this.model.get("video_info").width) * this.zoom;
  }

  get colours() {
    const rows = this.model.get("object_rows");
    return new Map(rows.map((row) => [row.id, parseColour(row.colour)]));
  }

  /** Makes the canvas as large as the page allows. */
  fit() {
    const { width, height } = this.model.get("video_info");
    const available = this.box.clientWidth || 480;
    const shown = Math.min(available, MAX_HEIGHT_PX * (width / height));
    const density = window.devicePixelRatio || 1;
    this.canvas.style.width = `${shown}px`;
    this.canvas.style.margin = "0 auto";
    this.canvas.width = Math.round(shown * density);
    this.canvas.height = Math.round((shown * height / width) * density);
    this.draw();
  }

  async showImage() {
    const data = this.model.get("image_data");
    if (!data.bytes) return;
    const image = await createImageBitmap(new Blob([getBytes(data.bytes)], { type: data.mime }));
    if (data !== this.model.get("image_data")) return; // a newer image arrived meanwhile
    this.image = image;
    this.draw();
  }

  async showLabels() {
    const data = this.model.get("label_data");
    if (!data.bytes) return;
    const buffer = await decompress(data.bytes);
    if (data !== this.model.get("label_data")) return; // newer labels arrived meanwhile
    this.labels = data.bits === 16 ? new Uint16Array(buffer) : new Uint32Array(buffer);
    [this.height, this.width] = data.shape;
    this.repaint();
    this.recordAnswer();
  }

  /** Records on the canvas, for tests, which labels it shows and how long the last mask took. */
  recordAnswer() {
    const { dataset } = this.canvas;
    this.canvas.labels = this.labels;
    dataset.overlays = 1 + Number(dataset.overlays ?? 0);
    if (!this.pressed) return;
    dataset.answeredMs = (performance.now() - this.pressed).toFixed(1);
    dataset.answers = 1 + Number(dataset.answers ?? 0);
    this.pressed = null;
  }

  repaint() {
    if (this.labels) {
      this.masks = paintLabels(this.labels, this.width, this.height, this.colours, this.opacity);
    }
    this.draw();
  }

  draw() {
    const pen = this.canvas.getContext("2d");
    const { shrink } = this.model.get("video_info");
    const { scale, corner: [x, y] } = this;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.imageSmoothingEnabled = false;
    pen.setTransform(scale, 0, 0, scale, -x * scale, -y * scale);
    for (const layer of [this.image, this.masks]) {
      if (layer) pen.drawImage(layer, 0, 0, layer.width * shrink, layer.height * shrink);
    }
    pen.translate(0.5, 0.5); // (0, 0) is the centre of the first pixel
    for (const mark of this.model.get("prompt_marks")) this.drawMark(pen, mark);
    if (this.drag?.box) this.drawBox(pen, this.drag.box, "#ffffff", true);
    this.showPosition();
  }

  showPosition() {
    const { along, frames, step } = this.model.get("video_info");
    const frame = this.model.get("frame"), unit = along === "z" ? "µm" : "s";
    const distance = step ? ` · ${Number((frame * step).toPrecision(4))} ${unit}` : "";
    this.position.textContent = `${along} ${frame} / ${frames - 1}${distance}`;
  }

  drawMark(pen, mark) {
    const selected = mark.track === this.model.get("track");
    const size = (selected ? 6 : 4) * ((window.devicePixelRatio || 1) / this.scale);
    const colour = `rgb(${this.colours.get(mark.track) ?? [255, 255, 255]})`;
    if (mark.box) this.drawBox(pen, mark.box, colour, false);
    for (const [y, x, positive] of mark.points) {
      pen.beginPath();
      pen.arc(x, y, size, 0, 2 * Math.PI);
      pen.fillStyle = positive ? colour : "#111";
      pen.fill();
      pen.lineWidth = size / 3;
      pen.strokeStyle = positive ? "#fff" : "#ff5252";
      pen.stroke();
      pen.beginPath();
      pen.moveTo(x - size / 2, y);
      pen.lineTo(x + size / 2, y);
      if (positive) { pen.moveTo(x, y - size / 2); pen.lineTo(x, y + size / 2); }
      pen.stroke();
    }
  }

  drawBox(pen, [y, x, y2, x2], colour, dashed) {
    const line = (window.devicePixelRatio || 1) / this.scale;
    pen.lineWidth = 1.5 * line;
    pen.setLineDash(dashed ? [5 * line, 4 * line] : []);
    pen.strokeStyle = colour;
    pen.strokeRect(x, y, x2 - x, y2 - y);
    pen.setLineDash([]);
  }

  /** Returns the position of an event as [y, x] in data pixels, within the frame. */
  locate(event) {
    const { width, height } = this.model.get("video_info");
    const { scale, corner } = this;
    const edge = this.canvas.getBoundingClientRect();
    const canvasX = (event.clientX - edge.left) * (this.canvas.width / edge.width);
    const canvasY = (event.clientY - edge.top) * (this.canvas.height / edge.height);
    const x = canvasX / scale + corner[0] - 0.5, y = canvasY / scale + corner[1] - 0.5;
    return [
      Math.min(Math.max(y, -0.5), height - 0.5),
      Math.min(Math.max(x, -0.5), width - 0.5),
    ];
  }

  listen() {
    const stop = (event) => { event.preventDefault(); event.stopPropagation(); };
    this.canvas.addEventListener("contextmenu", stop);
    this.canvas.addEventListener("pointerdown", (event) => { stop(event); this.onPress(event); });
    this.canvas.addEventListener("pointermove", (event) => this.onMove(event));
    this.canvas.addEventListener("pointerup", (event) => { stop(event); this.onRelease(); });
    this.canvas.addEventListener("pointercancel", () => { this.drag = null; this.draw(); });
    this.canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // the wheel alone scrolls the notebook
      stop(event);
      this.zoomAt(event, Math.exp(-event.deltaY / 300));
    }, { passive: false });
    this.canvas.addEventListener("dblclick", stop);
  }

  onPress(event) {
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.drag = {
      at: [event.clientX, event.clientY],
      from: this.locate(event),
      corner: this.corner,
      pans: event.button === 1 || event.shiftKey,
      negative: event.button === 2 || event.altKey,
    };
  }

  onMove(event) {
    const drag = this.drag;
    if (!drag) return;
    const [right, down] = [event.clientX - drag.at[0], event.clientY - drag.at[1]];
    if (drag.pans) {
      const density = this.canvas.width / this.canvas.getBoundingClientRect().width;
      const step = density / this.scale;
      this.corner = this.clampCorner([drag.corner[0] - right * step, drag.corner[1] - down * step]);
    } else if (drag.box || Math.hypot(right, down) > DRAG_PX) {
      const [y, x] = this.locate(event), [y0, x0] = drag.from;
      drag.box = [Math.min(y, y0), Math.min(x, x0), Math.max(y, y0), Math.max(x, x0)];
    }
    this.draw();
  }

  onRelease() {
    const drag = this.drag;
    this.drag = null;
    if (!drag || drag.pans) return;
    this.pressed = performance.now();
    const target = { frame: this.model.get("frame"), track: this.model.get("track") };
    if (drag.box) this.send({ kind: "box", box: drag.box, ...target });
    else this.send({ kind: "point", yx: drag.from, positive: !drag.negative, ...target });
    this.draw();
  }

  /** Moves a corner so that the frame fills the canvas. */
  clampCorner([x, y]) {
    const { width, height } = this.model.get("video_info");
    return [
      Math.min(Math.max(x, 0), width - width / this.zoom),
      Math.min(Math.max(y, 0), height - height / this.zoom),
    ];
  }

  zoomAt(event, factor) {
    const [y, x] = this.locate(event);
    const before = this.zoom;
    this.zoom = Math.min(Math.max(this.zoom * factor, 1), MAX_ZOOM);
    const ratio = before / this.zoom;
    const [left, top] = this.corner;
    this.corner = this.clampCorner([x - (x - left) * ratio, y - (y - top) * ratio]);
    this.draw();
  }
}
