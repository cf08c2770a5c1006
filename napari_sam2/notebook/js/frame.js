// The frame one clicks on.

const DRAG_PX = 4; // a press that moves less is a click
const TALLEST_PX = 560;

/** The frame: picture, masks, prompts; clicks, boxes, zoom. */
class Frame {
  constructor(model, say) {
    this.model = model;
    this.say = say;
    this.box = make("div", "sam2-frame");
    this.canvas = make("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("aria-label", "frame: click on an object; Alt-click where it is not; drag a box around it");
    this.moment = make("div", "sam2-moment");
    this.box.append(this.canvas, this.moment);
    this.zoom = 1;
    this.corner = [0, 0]; // what is at the top left of the canvas, in data pixels (x, y)
    this.opacity = 0.35;
    this.listen();
  }

  /** Screen pixels of the canvas for one data pixel. */
  get scale() {
    return (this.canvas.width / this.model.get("_video").width) * this.zoom;
  }

  get colours() {
    return new Map(this.model.get("_objects").map((each) => [each.id, rgb(each.colour)]));
  }

  /** Makes the canvas as large as there is room for. */
  fit() {
    const { width, height } = this.model.get("_video");
    const room = this.box.clientWidth || 480;
    const shown = Math.min(room, TALLEST_PX * (width / height));
    const dense = window.devicePixelRatio || 1;
    this.canvas.style.width = `${shown}px`;
    this.canvas.style.margin = "0 auto";
    this.canvas.width = Math.round(shown * dense);
    this.canvas.height = Math.round((shown * height / width) * dense);
    this.draw();
  }

  async showImage() {
    const sent = this.model.get("_image");
    if (!sent.bytes) return;
    const picture = await createImageBitmap(new Blob([bytesOf(sent.bytes)], { type: sent.mime }));
    if (sent !== this.model.get("_image")) return; // a newer one came while this was unpacked
    this.image = picture;
    this.draw();
  }

  async showLabels() {
    const sent = this.model.get("_overlay");
    if (!sent.bytes) return;
    const buffer = await unpacked(sent.bytes);
    if (sent !== this.model.get("_overlay")) return;
    this.labels = sent.bits === 16 ? new Uint16Array(buffer) : new Uint32Array(buffer);
    [this.height, this.width] = sent.shape;
    this.repaint();
    this.note();
  }

  /** Leaves on the canvas what a test wants to know: the labels it shows, and how long the last answer took. */
  note() {
    const { dataset } = this.canvas;
    this.canvas.labels = this.labels;
    dataset.overlays = 1 + Number(dataset.overlays ?? 0);
    if (!this.pressed) return;
    dataset.answeredMs = (performance.now() - this.pressed).toFixed(1);
    dataset.answers = 1 + Number(dataset.answers ?? 0);
    this.pressed = null;
  }

  repaint() {
    if (this.labels) this.masks = paint(this.labels, this.width, this.height, this.colours, this.opacity);
    this.draw();
  }

  draw() {
    const pen = this.canvas.getContext("2d");
    const { shrink, along, frames, step } = this.model.get("_video");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.imageSmoothingEnabled = false;
    pen.setTransform(this.scale, 0, 0, this.scale, -this.corner[0] * this.scale, -this.corner[1] * this.scale);
    for (const layer of [this.image, this.masks]) {
      if (layer) pen.drawImage(layer, 0, 0, layer.width * shrink, layer.height * shrink);
    }
    pen.translate(0.5, 0.5); // (0, 0) is the centre of the first pixel
    for (const mark of this.model.get("_marks")) this.drawMark(pen, mark);
    if (this.drag?.box) this.drawBox(pen, this.drag.box, "#ffffff", true);
    const frame = this.model.get("frame");
    const where = step ? ` · ${Number((frame * step).toPrecision(4))} ${along === "z" ? "µm" : "s"}` : "";
    this.moment.textContent = `${along} ${frame} / ${frames - 1}${where}`;
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

  /** Where an event is: [y, x] in data pixels, within the frame. */
  place(event) {
    const { width, height } = this.model.get("_video");
    const edge = this.canvas.getBoundingClientRect();
    const along = (event.clientX - edge.left) * (this.canvas.width / edge.width) / this.scale + this.corner[0] - 0.5;
    const down = (event.clientY - edge.top) * (this.canvas.height / edge.height) / this.scale + this.corner[1] - 0.5;
    return [Math.min(Math.max(down, -0.5), height - 0.5), Math.min(Math.max(along, -0.5), width - 0.5)];
  }

  listen() {
    const stop = (event) => { event.preventDefault(); event.stopPropagation(); };
    this.canvas.addEventListener("contextmenu", stop);
    this.canvas.addEventListener("pointerdown", (event) => {
      stop(event);
      this.canvas.focus({ preventScroll: true });
      this.canvas.setPointerCapture(event.pointerId);
      const pans = event.button === 1 || event.shiftKey, negative = event.button === 2 || event.altKey;
      this.drag = { at: [event.clientX, event.clientY], from: this.place(event), corner: this.corner, pans, negative };
    });
    this.canvas.addEventListener("pointermove", (event) => this.moved(event));
    this.canvas.addEventListener("pointerup", (event) => { stop(event); this.released(event); });
    this.canvas.addEventListener("pointercancel", () => { this.drag = null; this.draw(); });
    this.canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // the wheel alone scrolls the notebook
      stop(event);
      this.zoomAt(event, Math.exp(-event.deltaY / 300));
    }, { passive: false });
    this.canvas.addEventListener("dblclick", stop);
  }

  moved(event) {
    const drag = this.drag;
    if (!drag) return;
    const [along, down] = [event.clientX - drag.at[0], event.clientY - drag.at[1]];
    if (drag.pans) {
      const dense = this.canvas.width / this.canvas.getBoundingClientRect().width;
      this.corner = this.kept([drag.corner[0] - along * dense / this.scale, drag.corner[1] - down * dense / this.scale]);
    } else if (drag.box || Math.hypot(along, down) > DRAG_PX) {
      const [y, x] = this.place(event);
      drag.box = [Math.min(y, drag.from[0]), Math.min(x, drag.from[1]), Math.max(y, drag.from[0]), Math.max(x, drag.from[1])];
    }
    this.draw();
  }

  released() {
    const drag = this.drag;
    this.drag = null;
    if (!drag || drag.pans) return;
    this.pressed = performance.now();
    const of = { frame: this.model.get("frame"), track: this.model.get("track") };
    if (drag.box) this.say({ kind: "box", box: drag.box, ...of });
    else this.say({ kind: "point", yx: drag.from, positive: !drag.negative, ...of });
    this.draw();
  }

  /** A corner that leaves no empty room beside the frame. */
  kept([along, down]) {
    const { width, height } = this.model.get("_video");
    return [Math.min(Math.max(along, 0), width - width / this.zoom), Math.min(Math.max(down, 0), height - height / this.zoom)];
  }

  zoomAt(event, factor) {
    const [y, x] = this.place(event);
    const before = this.zoom;
    this.zoom = Math.min(Math.max(this.zoom * factor, 1), 32);
    const part = before / this.zoom;
    this.corner = this.kept([x - (x - this.corner[0]) * part, y - (y - this.corner[1]) * part]);
    this.draw();
  }
}
