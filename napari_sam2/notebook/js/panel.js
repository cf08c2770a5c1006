// The panel: puts the parts together and sends what the user does. The files are joined in the
// order of _SCRIPTS in panel.py, as one module without a build step.

const SAVE_INTERVAL_MS = 60; // sliders send at most this often
const MIN_CONTRAST = 1e-6; // smallest difference of black and white

function makeButton(text, title, onClick, name = "") {
  const button = makeElement("button", name, text);
  button.type = "button";
  button.title = title;
  button.addEventListener("click", onClick);
  return button;
}

/** Makes a labelled slider for a grid of three columns: name, slider, value. */
function makeSlider(name, format, onInput) {
  const label = makeElement("label", "", name);
  const input = makeElement("input"), output = makeElement("output");
  input.type = "range";
  input.setAttribute("aria-label", name);
  input.addEventListener("input", () => {
    output.textContent = format(input.value);
    onInput(Number(input.value));
  });
  return {
    parts: [label, input, output],
    setRange(min, max, step) { Object.assign(input, { min, max, step }); },
    setValue(value) { input.value = value; output.textContent = format(value); },
  };
}

function makeSection(name, ...parts) {
  const box = makeElement("div", "sam2-section");
  box.append(makeElement("h4", "", name), ...parts);
  return box;
}

/** The row of buttons, and the progress of the propagation. */
class Toolbar {
  constructor(model, send) {
    this.model = model;
    const getTarget = () => ({ track: model.get("track"), frame: model.get("frame") });
    this.newObject = makeButton("New object", "the next click is for another object (N)",
      () => send({ kind: "new" }));
    this.undo = makeButton("Undo", "undo the last prompt and what was propagated since (Z)",
      () => send({ kind: "undo" }));
    this.lock = makeButton("Accept frame",
      "propagation does not change an accepted frame; click again to release it (L)",
      () => send({ kind: "lock", ...getTarget() }));
    this.propagate = makeButton("Propagate", "propagate new and corrected objects (P)",
      () => send({ kind: "propagate" }), "sam2-main");
    this.cancel = makeButton("Cancel", "stop before the next frame (Esc)",
      () => send({ kind: "cancel" }));
    this.single = makeElement("input");
    this.single.type = "checkbox";
    this.single.addEventListener("change", () => {
      model.set("single", this.single.checked);
      model.save_changes();
    });
    const check = makeElement("label", "sam2-check");
    check.append(this.single, "new object on each click");
    this.progress = makeElement("div", "sam2-progress");
    this.progress.setAttribute("role", "progressbar");
    this.filled = makeElement("div");
    this.progress.append(this.filled);
    this.count = makeElement("span", "sam2-count");
    this.box = makeElement("div", "sam2-toolbar");
    this.box.append(this.newObject, this.undo, this.lock, check, this.propagate, this.cancel);
    this.box.append(this.progress, this.count);
  }

  show() {
    const { propagating, position, total } = this.model.get("progress");
    this.progress.classList.toggle("sam2-active", propagating);
    this.progress.setAttribute("aria-valuenow", String(position));
    this.progress.setAttribute("aria-valuemax", String(total));
    this.filled.style.width = `${total ? (100 * position) / total : 0}%`;
    this.count.textContent = propagating ? `${position} / ${total}` : "";
    this.cancel.disabled = !propagating;
    for (const button of [this.propagate, this.undo, this.lock]) button.disabled = propagating;
    this.single.checked = this.model.get("single");
  }
}

/** The sliders for the position in the stack and the display of frames. */
class Sliders {
  constructor(model, frame, setTrait) {
    this.model = model;
    this.setTrait = setTrait;
    const format = (value) => String(Number(Number(value).toPrecision(4)));
    this.frame = makeSlider("", String, (value) => setTrait("frame", value));
    this.low = makeSlider("black", format, (value) => {
      const high = this.contrast[1];
      setTrait("contrast", [Math.min(value, high - MIN_CONTRAST), high]);
    });
    this.high = makeSlider("white", format, (value) => {
      const low = this.contrast[0];
      setTrait("contrast", [low, Math.max(value, low + MIN_CONTRAST)]);
    });
    const masks = makeSlider("masks", (value) => `${value} %`, (value) => {
      frame.opacity = value / 100;
      frame.repaint();
    });
    masks.setRange(0, 100, 1);
    masks.setValue(100 * frame.opacity);
    this.channel = makeElement("select");
    this.channel.setAttribute("aria-label", "channel that is shown");
    this.channel.addEventListener("change", () => {
      setTrait("channel", Number(this.channel.value));
    });
    this.channelParts = [makeElement("label", "", "channel"), this.channel, makeElement("output")];
    this.position = makeElement("div", "sam2-sliders");
    this.otherAxes = makeElement("div", "sam2-sliders");
    this.display = makeElement("div", "sam2-sliders sam2-display");
    this.position.append(...this.frame.parts);
    this.display.append(...this.channelParts, ...this.low.parts, ...this.high.parts);
    this.display.append(...masks.parts);
  }

  get contrast() {
    return this.model.get("contrast");
  }

  /** Sets ranges and names for another video. */
  showVideo() {
    const { along, frames, range, channels, other_axes } = this.model.get("video_info");
    const [low, high] = range;
    this.frame.parts[0].textContent = along;
    this.frame.setRange(0, frames - 1, 1);
    for (const slider of [this.low, this.high]) slider.setRange(low, high, (high - low) / 500);
    this.channel.replaceChildren(...channels.map(
      (name, number) => Object.assign(makeElement("option", "", name), { value: number }),
    ));
    for (const part of this.channelParts) part.style.display = channels.length > 1 ? "" : "none";
    this.otherAxes.replaceChildren(...other_axes.flatMap((other) => this.makeAxisSlider(other)));
  }

  makeAxisSlider({ axis, length }) {
    const slider = makeSlider(axis, String, (value) => {
      this.setTrait("at", { ...this.model.get("at"), [axis]: value });
    });
    slider.setRange(0, length - 1, 1);
    slider.setValue(this.model.get("at")[axis]);
    return slider.parts;
  }

  show() {
    this.frame.setValue(this.model.get("frame"));
    this.low.setValue(this.contrast[0]);
    this.high.setValue(this.contrast[1]);
    this.channel.value = this.model.get("channel");
  }
}

/** Handles keys while the frame has the focus. */
function listenForKeys(canvas, model, toolbar, setTrait) {
  const { newObject: n, undo: z, lock: l, propagate: p, cancel: Escape } = toolbar;
  const buttons = { n, z, l, p, Escape };
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1 };
  canvas.addEventListener("keydown", (event) => {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!(key in buttons) && !(key in steps)) return;
    event.preventDefault();
    event.stopPropagation();
    if (key in buttons) { buttons[key].click(); return; }
    const last = model.get("video_info").frames - 1;
    setTrait("frame", Math.min(Math.max(model.get("frame") + steps[key], 0), last));
  });
}

/** Builds the panel in `el`, and returns the function that removes its listeners. */
function render({ model, el }) {
  const send = (content) => model.send(content);
  const save = throttle(() => model.save_changes(), SAVE_INTERVAL_MS);
  const setTrait = (name, value) => { model.set(name, value); save(); };
  const frame = new Frame(model, send), lanes = new Lanes(model, setTrait);
  const objects = new Objects(model, send), table = makeElement("table", "sam2-table");
  const toolbar = new Toolbar(model, send), sliders = new Sliders(model, frame, setTrait);
  const title = makeElement("span", "sam2-title"), note = makeElement("span", "sam2-note");
  const status = makeElement("div", "sam2-status");
  status.setAttribute("role", "status");
  listenForKeys(frame.canvas, model, toolbar, setTrait);
  el.replaceChildren(
    layOut({ title, note, toolbar, frame, sliders, objects, table, lanes, status }),
  );

  const showVideo = () => {
    const video = model.get("video_info");
    title.textContent = video.name;
    note.textContent = note.title = video.model_note;
    sliders.showVideo();
    frame.fit();
  };
  const showView = () => { sliders.show(); frame.draw(); lanes.draw(); };
  const showObjects = () => { objects.draw(); frame.repaint(); lanes.draw(); };
  const showStatus = () => {
    const { text, error } = model.get("status");
    status.textContent = text;
    status.classList.toggle("sam2-error", error);
  };
  const listeners = [
    [["video_info"], showVideo],
    [["frame", "contrast", "channel", "prompt_marks"], showView],
    [["object_rows", "track"], showObjects],
    [["progress", "single"], () => toolbar.show()],
    [["count_rows"], () => drawTable(table, model.get("count_rows"))],
    [["status"], showStatus],
    [["image_data"], () => frame.showImage()],
    [["label_data"], () => frame.showLabels()],
    [["lane_data"], () => lanes.show()],
  ];
  for (const [names, show] of listeners) {
    for (const name of names) model.on(`change:${name}`, show);
    show();
  }
  const observer = new ResizeObserver(() => { frame.fit(); lanes.draw(); });
  observer.observe(el);
  return () => {
    observer.disconnect();
    for (const [names, show] of listeners) {
      for (const name of names) model.off(`change:${name}`, show);
    }
  };
}

/** Arranges the parts, and returns the root element. */
function layOut({ title, note, toolbar, frame, sliders, objects, table, lanes, status }) {
  const makeBox = (name) => makeElement("div", name);
  const root = makeBox("sam2"), head = makeBox("sam2-head"), body = makeBox("sam2-body");
  const left = makeBox("sam2-left"), right = makeBox("sam2-right");
  head.append(title, note);
  left.append(frame.box, sliders.position, sliders.otherAxes);
  right.append(
    makeSection("Objects", objects.list, objects.categories),
    makeSection("Counts", table),
    makeSection("Display", sliders.display),
  );
  body.append(left, right);
  root.append(head, toolbar.box, body, lanes.box, makeLegend(), status);
  return root;
}

export default { render };
