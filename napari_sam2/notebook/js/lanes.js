// The timeline: one lane per object.

// PRESENCE_CODES of core/track.py
const PRESENCE = { absent: 1, tracked: 2, locked: 3, prompted: 4, uncertain: 5 };
const LANE_PX = 15; // height of one lane
const GUTTER_PX = 34; // width of the object numbers

/** The lanes: the presence of each object on each frame. A click shows that frame. */
class Lanes {
  constructor(model, setTrait) {
    this.model = model;
    this.setTrait = setTrait;
    this.box = makeElement("div", "sam2-lanes");
    this.canvas = makeElement("canvas");
    this.canvas.setAttribute(
      "aria-label", "timeline: presence of each object on each frame; click to show a frame",
    );
    this.box.append(this.canvas);
    this.canvas.addEventListener("pointerdown", (event) => this.goTo(event));
    this.canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) this.goTo(event);
    });
  }

  async show() {
    const data = this.model.get("lane_data");
    if (!data.bytes) return;
    const buffer = await decompress(data.bytes);
    if (data !== this.model.get("lane_data")) return;
    this.codes = new Uint8Array(buffer);
    this.tracks = data.tracks;
    this.frames = data.frames;
    this.draw();
  }

  draw() {
    if (!this.codes) return;
    this.box.style.display = this.tracks.length ? "" : "none";
    const density = window.devicePixelRatio || 1;
    const width = this.box.clientWidth, height = Math.max(1, this.tracks.length) * LANE_PX + 4;
    this.canvas.style.height = `${height}px`;
    this.canvas.width = width * density;
    this.canvas.height = height * density;
    const pen = this.canvas.getContext("2d"), style = getComputedStyle(this.box);
    pen.scale(density, density);
    pen.font = `11px ${style.fontFamily}`;
    pen.textAlign = "right";
    const colours = new Map(this.model.get("object_rows").map((row) => [row.id, row.colour]));
    const cell = (width - GUTTER_PX - 6) / this.frames;
    this.tracks.forEach((track, row) => {
      const top = 2 + row * LANE_PX, colour = colours.get(track) ?? "#888";
      if (track === this.model.get("track")) {
        pen.fillStyle = "rgb(128 140 160 / 18%)";
        pen.fillRect(0, top, width, LANE_PX);
      }
      pen.fillStyle = style.color;
      pen.fillText(String(track), GUTTER_PX - 7, top + LANE_PX - 4);
      for (let frame = 0; frame < this.frames; frame++) {
        const code = this.codes[row * this.frames + frame], left = GUTTER_PX + frame * cell;
        drawPresence(pen, code, colour, left, top + 2, cell, LANE_PX - 4);
      }
    });
    const now = GUTTER_PX + (this.model.get("frame") + 0.5) * cell;
    pen.fillStyle = style.color;
    pen.fillRect(now - 0.75, 0, 1.5, height);
  }

  /** Shows the frame and selects the object under the pointer. */
  goTo(event) {
    if (!this.tracks?.length) return;
    const edge = this.canvas.getBoundingClientRect();
    const cell = (edge.width - GUTTER_PX - 6) / this.frames;
    const frame = Math.floor((event.clientX - edge.left - GUTTER_PX) / cell);
    const row = Math.floor((event.clientY - edge.top - 2) / LANE_PX);
    if (this.tracks[row] !== undefined) this.model.set("track", this.tracks[row]);
    this.setTrait("frame", Math.min(Math.max(frame, 0), this.frames - 1));
  }
}

/** Draws one cell of a lane. */
function drawPresence(pen, code, colour, left, top, width, height) {
  const gap = width > 4 ? 1 : 0;
  pen.globalAlpha = 1;
  if (code === PRESENCE.absent) {
    pen.fillStyle = "rgb(128 128 128 / 35%)";
    pen.fillRect(left, top + height / 2 - 0.75, width, 1.5);
  } else if (code) {
    pen.globalAlpha = code === PRESENCE.uncertain ? 0.35 : code === PRESENCE.tracked ? 0.75 : 1;
    pen.fillStyle = colour;
    pen.fillRect(left, top, width - gap, height);
    pen.globalAlpha = 1;
    if (code === PRESENCE.uncertain) {
      pen.fillStyle = "#ff9800";
      pen.fillRect(left, top + height - 3, width - gap, 3);
    }
    if (code === PRESENCE.prompted || code === PRESENCE.locked) {
      pen.strokeStyle = code === PRESENCE.locked ? "#111" : "#fff";
      pen.fillStyle = code === PRESENCE.locked ? "#fff" : "#111";
      pen.beginPath();
      const x = left + (width - gap) / 2, y = top + height / 2;
      if (code === PRESENCE.locked) pen.rect(x - 3, y - 3, 6, 6);
      else pen.arc(x, y, 3, 0, 2 * Math.PI);
      pen.fill();
      pen.stroke();
    }
  }
}

/** Makes the legend of the lanes. */
function makeLegend() {
  const box = makeElement("div", "sam2-legend"), density = window.devicePixelRatio || 1;
  for (const name of ["prompted", "locked", "tracked", "uncertain", "absent"]) {
    const entry = makeElement("span"), patch = makeElement("canvas"), pen = patch.getContext("2d");
    Object.assign(patch, { width: 18 * density, height: (LANE_PX - 4) * density });
    patch.style.cssText = `width: 18px; height: ${LANE_PX - 4}px`;
    pen.scale(density, density);
    drawPresence(pen, PRESENCE[name], "#5b7fd6", 0, 0, 18, LANE_PX - 4);
    entry.append(patch, name === "locked" ? "accepted" : name);
    box.append(entry);
  }
  return box;
}
