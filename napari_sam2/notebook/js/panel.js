// The panel: puts the parts together, and says what was clicked. The files are read in the order of panel.py's _SCRIPTS,
// as one module: no build step, what stands here is what runs.

const PATIENCE_MS = 60; // sliders speak this often at most
const LEAST = 1e-6; // between black and white

function button(text, title, act, name = "") {
  const made = make("button", name, text);
  made.type = "button";
  made.title = title;
  made.addEventListener("click", act);
  return made;
}

/** A labelled slider in a grid of three columns: name, slider, value. */
function slider(name, shown, heard) {
  const label = make("label", "", name), input = make("input"), output = make("output");
  input.type = "range";
  input.setAttribute("aria-label", name);
  input.addEventListener("input", () => { output.textContent = shown(input.value); heard(Number(input.value)); });
  return {
    input,
    parts: [label, input, output],
    span(min, max, step) { Object.assign(input, { min, max, step }); },
    set(value) { input.value = value; output.textContent = shown(value); },
  };
}

function section(name, ...parts) {
  const box = make("div", "sam2-section");
  box.append(make("h4", "", name), ...parts);
  return box;
}

/** The row of buttons, and how far the propagation is. */
class Bar {
  constructor(model, say) {
    this.model = model;
    const here = () => ({ track: model.get("track"), frame: model.get("frame") });
    this.fresh = button("New object", "the next click is for another object (N)", () => say({ kind: "new" }));
    this.undo = button("Undo", "take back the last prompt and what was carried since (Z)", () => say({ kind: "undo" }));
    this.lock = button("Accept frame", "no propagation overwrites it; again: free it (L)", () => say({ kind: "lock", ...here() }));
    this.carry = button("Propagate", "carry what is new and what was corrected (P)", () => say({ kind: "propagate" }), "sam2-main");
    this.cancel = button("Cancel", "stop before the next frame (Esc)", () => say({ kind: "cancel" }));
    this.single = make("input");
    this.single.type = "checkbox";
    this.single.addEventListener("change", () => { model.set("single", this.single.checked); model.save_changes(); });
    const check = make("label", "sam2-check");
    check.append(this.single, "each click a new object");
    this.progress = make("div", "sam2-progress");
    this.progress.setAttribute("role", "progressbar");
    this.filled = make("div");
    this.progress.append(this.filled);
    this.count = make("span", "sam2-count");
    this.box = make("div", "sam2-bar");
    this.box.append(this.fresh, this.undo, this.lock, check, this.carry, this.cancel, this.progress, this.count);
  }

  show() {
    const { carrying, position, total } = this.model.get("_work");
    this.progress.classList.toggle("sam2-on", carrying);
    this.progress.setAttribute("aria-valuenow", String(position));
    this.progress.setAttribute("aria-valuemax", String(total));
    this.filled.style.width = `${total ? (100 * position) / total : 0}%`;
    this.count.textContent = carrying ? `${position} / ${total}` : "";
    this.cancel.disabled = !carrying;
    for (const each of [this.carry, this.undo, this.lock]) each.disabled = carrying;
    this.single.checked = this.model.get("single");
  }
}

/** Where one is in the stack, and how frames look. `put` sets a trait, not too often. */
class Sliders {
  constructor(model, frame, put) {
    this.model = model;
    this.put = put;
    const short = (value) => String(Number(Number(value).toPrecision(4)));
    this.move = slider("", String, (value) => put("frame", value));
    this.low = slider("black", short, (value) => put("contrast", [Math.min(value, this.contrast[1] - LEAST), this.contrast[1]]));
    this.high = slider("white", short, (value) => put("contrast", [this.contrast[0], Math.max(value, this.contrast[0] + LEAST)]));
    const masks = slider("masks", (value) => `${value} %`, (value) => { frame.opacity = value / 100; frame.repaint(); });
    masks.span(0, 100, 1);
    masks.set(100 * frame.opacity);
    this.channel = make("select");
    this.channel.setAttribute("aria-label", "channel that is shown");
    this.channel.addEventListener("change", () => put("channel", Number(this.channel.value)));
    this.choice = [make("label", "", "channel"), this.channel, make("output")];
    this.place = make("div", "sam2-sliders");
    this.others = make("div", "sam2-sliders");
    this.looks = make("div", "sam2-sliders sam2-looks");
    this.place.append(...this.move.parts);
    this.looks.append(...this.choice, ...this.low.parts, ...this.high.parts, ...masks.parts);
  }

  get contrast() {
    return this.model.get("contrast");
  }

  /** For another video. */
  showVideo() {
    const { along, frames, range: [low, high], channels, others } = this.model.get("_video");
    this.move.parts[0].textContent = along;
    this.move.span(0, frames - 1, 1);
    for (const each of [this.low, this.high]) each.span(low, high, (high - low) / 500);
    this.channel.replaceChildren(...channels.map((name, number) => Object.assign(make("option", "", name), { value: number })));
    for (const part of this.choice) part.style.display = channels.length > 1 ? "" : "none";
    this.others.replaceChildren(...others.flatMap((other) => this.other(other)));
  }

  other({ axis, length }) {
    const made = slider(axis, String, (value) => this.put("at", { ...this.model.get("at"), [axis]: value }));
    made.span(0, length - 1, 1);
    made.set(this.model.get("at")[axis]);
    return made.parts;
  }

  show() {
    this.move.set(this.model.get("frame"));
    this.low.set(this.contrast[0]);
    this.high.set(this.contrast[1]);
    this.channel.value = this.model.get("channel");
  }
}

/** Keys, while the frame has the focus. */
function listenForKeys(canvas, model, bar, put) {
  const buttons = { n: bar.fresh, z: bar.undo, l: bar.lock, p: bar.carry, Escape: bar.cancel };
  const does = { ...buttons, ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1 };
  canvas.addEventListener("keydown", (event) => {
    const act = does[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (act === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    if (typeof act !== "number") { act.click(); return; }
    put("frame", Math.min(Math.max(model.get("frame") + act, 0), model.get("_video").frames - 1));
  });
}

/** Builds the panel into `el`; what it returns takes it down again. */
function render({ model, el }) {
  const say = (content) => model.send(content);
  const tell = calmed(() => model.save_changes(), PATIENCE_MS);
  const put = (name, value) => { model.set(name, value); tell(); };
  const frame = new Frame(model, say), lanes = new Lanes(model, put), objects = new Objects(model, say);
  const bar = new Bar(model, say), sliders = new Sliders(model, frame, put), table = make("table", "sam2-table");
  const title = make("span", "sam2-title"), note = make("span", "sam2-note"), said = make("div", "sam2-said");
  said.setAttribute("role", "status");
  listenForKeys(frame.canvas, model, bar, put);
  el.replaceChildren(laidOut({ title, note, bar, frame, sliders, objects, table, lanes, said }));

  const shows = {
    video() {
      const video = model.get("_video");
      title.textContent = video.name;
      note.textContent = note.title = video.model_note;
      sliders.showVideo();
      frame.fit();
    },
    look() { sliders.show(); frame.draw(); lanes.draw(); },
    objects() { objects.draw(); frame.repaint(); lanes.draw(); },
    work() { bar.show(); },
    table() { drawTable(table, model.get("_table")); },
    said() { said.textContent = model.get("_said").text; said.classList.toggle("sam2-wrong", model.get("_said").wrong); },
    image() { frame.showImage(); },
    labels() { frame.showLabels(); },
    lanes() { lanes.show(); },
  };
  const heard = [
    ["_video", shows.video], ["frame", shows.look], ["contrast", shows.look], ["channel", shows.look], ["_marks", shows.look],
    ["_objects", shows.objects], ["track", shows.objects], ["single", shows.work], ["_work", shows.work], ["_table", shows.table],
    ["_said", shows.said], ["_image", shows.image], ["_overlay", shows.labels], ["_lanes", shows.lanes],
  ];
  for (const [name, show] of heard) model.on(`change:${name}`, show);
  const resized = new ResizeObserver(() => { frame.fit(); lanes.draw(); });
  resized.observe(el);
  for (const show of Object.values(shows)) show();
  return () => {
    resized.disconnect();
    for (const [name, show] of heard) model.off(`change:${name}`, show);
  };
}

/** The parts in their places. */
function laidOut({ title, note, bar, frame, sliders, objects, table, lanes, said }) {
  const [root, head, body, left, right] = ["sam2", "sam2-head", "sam2-body", "sam2-left", "sam2-right"].map((name) => make("div", name));
  head.append(title, note);
  left.append(frame.box, sliders.place, sliders.others);
  right.append(section("Objects", objects.list, objects.kinds), section("Counts", table), section("Display", sliders.looks));
  body.append(left, right);
  root.append(head, bar.box, body, lanes.box, laneNames(), said);
  return root;
}

export default { render };
