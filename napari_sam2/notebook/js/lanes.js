// The swim lanes.

const PRESENCE = { absent: 1, tracked: 2, locked: 3, prompted: 4, uncertain: 5 }; // as PRESENCE_CODES of core/track.py
const LANE_PX = 15; // height of one lane
const GUTTER_PX = 34; // where the numbers of the lanes stand

/** The swim lanes: what each object is on each frame. A click goes there. */
class Lanes {
  constructor(model, put) {
    this.model = model;
    this.put = put;
    this.box = make("div", "sam2-lanes");
    this.canvas = make("canvas");
    this.canvas.setAttribute("aria-label", "lanes: what each object is on each frame; click to go there");
    this.box.append(this.canvas);
    this.canvas.addEventListener("pointerdown", (event) => this.go(event));
    this.canvas.addEventListener("pointermove", (event) => { if (event.buttons) this.go(event); });
  }

  async show() {
    const sent = this.model.get("_lanes");
    if (!sent.bytes) return;
    const buffer = await unpacked(sent.bytes);
    if (sent !== this.model.get("_lanes")) return;
    this.codes = new Uint8Array(buffer);
    this.tracks = sent.tracks;
    this.frames = sent.frames;
    this.draw();
  }

  draw() {
    if (!this.codes) return;
    this.box.style.display = this.tracks.length ? "" : "none";
    const dense = window.devicePixelRatio || 1;
    const width = this.box.clientWidth, height = Math.max(1, this.tracks.length) * LANE_PX + 4;
    this.canvas.style.height = `${height}px`;
    this.canvas.width = width * dense;
    this.canvas.height = height * dense;
    const pen = this.canvas.getContext("2d"), look = getComputedStyle(this.box);
    pen.scale(dense, dense);
    pen.font = `11px ${look.fontFamily}`;
    pen.textAlign = "right";
    const colours = new Map(this.model.get("_objects").map((each) => [each.id, each.colour]));
    const cell = (width - GUTTER_PX - 6) / this.frames;
    this.tracks.forEach((track, row) => {
      const top = 2 + row * LANE_PX, colour = colours.get(track) ?? "#888";
      if (track === this.model.get("track")) {
        pen.fillStyle = "rgb(128 140 160 / 18%)";
        pen.fillRect(0, top, width, LANE_PX);
      }
      pen.fillStyle = look.color;
      pen.fillText(String(track), GUTTER_PX - 7, top + LANE_PX - 4);
      for (let frame = 0; frame < this.frames; frame++) {
        drawPresence(pen, this.codes[row * this.frames + frame], colour, GUTTER_PX + frame * cell, top + 2, cell, LANE_PX - 4);
      }
    });
    const now = GUTTER_PX + (this.model.get("frame") + 0.5) * cell;
    pen.fillStyle = look.color;
    pen.fillRect(now - 0.75, 0, 1.5, height);
  }

  go(event) {
    if (!this.tracks?.length) return;
    const edge = this.canvas.getBoundingClientRect();
    const cell = (edge.width - GUTTER_PX - 6) / this.frames;
    const frame = Math.floor((event.clientX - edge.left - GUTTER_PX) / cell);
    const row = Math.floor((event.clientY - edge.top - 2) / LANE_PX);
    if (this.tracks[row] !== undefined) this.model.set("track", this.tracks[row]);
    this.put("frame", Math.min(Math.max(frame, 0), this.frames - 1));
  }
}

/** One cell of a lane. */
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
      if (code === PRESENCE.locked) pen.rect(left + (width - gap) / 2 - 3, top + height / 2 - 3, 6, 6);
      else pen.arc(left + (width - gap) / 2, top + height / 2, 3, 0, 2 * Math.PI);
      pen.fill();
      pen.stroke();
    }
  }
}

/** What the looks of the lanes mean. */
function laneNames() {
  const box = make("div", "sam2-key"), dense = window.devicePixelRatio || 1;
  for (const name of ["prompted", "locked", "tracked", "uncertain", "absent"]) {
    const each = make("span"), patch = make("canvas"), pen = patch.getContext("2d");
    Object.assign(patch, { width: 18 * dense, height: (LANE_PX - 4) * dense });
    patch.style.cssText = `width: 18px; height: ${LANE_PX - 4}px`;
    pen.scale(dense, dense);
    drawPresence(pen, PRESENCE[name], "#5b7fd6", 0, 0, 18, LANE_PX - 4);
    each.append(patch, name === "locked" ? "accepted" : name);
    box.append(each);
  }
  return box;
}
