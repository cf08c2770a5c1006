// The panel: puts the parts together, and says what was clicked. The files are read in the order of panel.py's _SCRIPTS,
// as one module: no build step, what stands here is what runs.

const PATIENCE_MS = 60; // sliders speak this often at most

/** A labelled slider in a grid of three columns: name, slider, value. */
function slider(name, shown, heard) {
  const label = make("label", "", name), input = make("input"), output = make("output");
  input.type = "range";
  input.setAttribute("aria-label", name);
  input.addEventListener("input", () => { output.textContent = shown(input.value); heard(input.value); });
  return { input, parts: [label, input, output], set(value) { input.value = value; output.textContent = shown(value); } };
}

function drawTable(table, rows) {
  const head = make("tr");
  head.append(...["category", "this frame", "stack"].map((name) => make("th", "", name)));
  table.replaceChildren(head, ...rows.map((row) => {
    const line = make("tr");
    line.append(...[row.category, row.frame, row.stack].map((value) => make("td", "", String(value))));
    return line;
  }));
}

function button(text, title, act, name = "") {
  const made = make("button", name, text);
  made.type = "button";
  made.title = title;
  made.addEventListener("click", act);
  return made;
}

/** Builds the panel into `el`; what it returns takes it down again. */
function render({ model, el }) {
  const say = (content) => model.send(content);
  const frame = new Frame(model, say), lanes = new Lanes(model), objects = new Objects(model, say);
  const root = make("div", "sam2"), head = make("div", "sam2-head"), bar = make("div", "sam2-bar");
  const title = make("span", "sam2-title"), note = make("span", "sam2-note"), said = make("div", "sam2-said");
  said.setAttribute("role", "status");
  head.append(title, note);

  const carry = button("Propagate", "carry what is new and what was corrected through the stack (P)", () => say({ kind: "propagate" }), "sam2-main");
  const cancel = button("Cancel", "stop before the next frame (Esc)", () => say({ kind: "cancel" }));
  const fresh = button("New object", "the next click is for another object (N)", () => say({ kind: "new" }));
  const undo = button("Undo", "take back the last prompt and what was carried since (Z)", () => say({ kind: "undo" }));
  const lock = button("Accept frame", "nothing overwrites this object on this frame; again: free it (L)", () => say({ kind: "lock", track: model.get("track"), frame: model.get("frame") }));
  const single = make("input"), check = make("label", "sam2-check"), progress = make("div", "sam2-progress"), filled = make("div"), count = make("span", "sam2-count");
  single.type = "checkbox";
  check.append(single, "each click a new object");
  single.addEventListener("change", () => { model.set("single", single.checked); model.save_changes(); });
  progress.setAttribute("role", "progressbar");
  progress.append(filled);
  bar.append(fresh, undo, lock, check, carry, cancel, progress, count);

  const tell = calmed(() => model.save_changes(), PATIENCE_MS);
  const put = (name, value) => { model.set(name, value); tell(); };
  const sliders = make("div", "sam2-sliders"), others = make("div", "sam2-sliders"), right = make("div", "sam2-right"), left = make("div", "sam2-left");
  const move = slider("", String, (value) => put("frame", Number(value)));
  const short = (value) => String(Number(Number(value).toPrecision(4)));
  const low = slider("black", short, (value) => put("contrast", [Math.min(Number(value), model.get("contrast")[1] - 1e-6), model.get("contrast")[1]]));
  const high = slider("white", short, (value) => put("contrast", [model.get("contrast")[0], Math.max(Number(value), model.get("contrast")[0] + 1e-6)]));
  const fill = slider("masks", (value) => `${value} %`, (value) => { frame.opacity = value / 100; frame.repaint(); });
  Object.assign(fill.input, { min: 0, max: 100 });
  fill.set(35);
  const channel = make("select");
  channel.addEventListener("change", () => put("channel", Number(channel.value)));
  sliders.append(...move.parts);
  const choice = [make("label", "", "channel"), channel, make("output")];
  const looks = make("div", "sam2-sliders");
  looks.append(...choice, ...low.parts, ...high.parts, ...fill.parts);

  const section = (name, ...parts) => { const box = make("div", "sam2-section"); box.append(make("h4", "", name), ...parts); return box; };
  const table = make("table", "sam2-table"), display = section("Display", looks);
  looks.style.cssText = "margin: 0; padding: 6px 9px";
  right.append(section("Objects", objects.list, objects.kinds), section("Counts", table), display);
  left.append(frame.box, sliders, others);
  const body = make("div", "sam2-body"), laneKey = laneNames();
  body.append(left, right);
  root.append(head, bar, body, lanes.box, laneKey, said);
  el.replaceChildren(root);

  const showVideo = () => {
    const video = model.get("_video");
    title.textContent = video.name;
    note.textContent = note.title = video.model_note;
    move.parts[0].textContent = video.along;
    Object.assign(move.input, { min: 0, max: video.frames - 1, step: 1 });
    for (const each of [low, high]) Object.assign(each.input, { min: video.range[0], max: video.range[1], step: (video.range[1] - video.range[0]) / 500 });
    channel.replaceChildren(...video.channels.map((name, number) => Object.assign(make("option", "", name), { value: number })));
    for (const part of choice) part.style.display = video.channels.length > 1 ? "" : "none";
    others.replaceChildren(...video.others.flatMap(({ axis, length }) => {
      const other = slider(axis, String, (value) => put("at", { ...model.get("at"), [axis]: Number(value) }));
      Object.assign(other.input, { min: 0, max: length - 1, step: 1 });
      other.set(model.get("at")[axis]);
      return other.parts;
    }));
    frame.fit();
  };
  const showLook = () => { [low, high].forEach((each, number) => each.set(model.get("contrast")[number])); channel.value = model.get("channel"); };
  const showFrame = () => { move.set(model.get("frame")); frame.draw(); lanes.draw(); };
  const showObjects = () => { objects.draw(); frame.repaint(); lanes.draw(); single.checked = model.get("single"); };
  const showTable = () => drawTable(table, model.get("_table"));
  const showSaid = () => { const { text, wrong } = model.get("_said"); said.textContent = text; said.classList.toggle("sam2-wrong", wrong); };
  const showWork = () => {
    const { carrying, position, total } = model.get("_work");
    progress.classList.toggle("sam2-on", carrying);
    filled.style.width = `${total ? (100 * position) / total : 0}%`;
    progress.setAttribute("aria-valuenow", String(position));
    progress.setAttribute("aria-valuemax", String(total));
    count.textContent = carrying ? `${position} / ${total}` : "";
    cancel.disabled = !carrying;
    for (const each of [carry, undo, lock]) each.disabled = carrying;
    root.dataset.carrying = carrying;
  };

  const keys = {
    n: fresh, z: undo, l: lock, p: carry, Escape: cancel,
    ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1,
  };
  frame.canvas.addEventListener("keydown", (event) => {
    const does = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (does === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    if (typeof does !== "number") { does.click(); return; }
    put("frame", Math.min(Math.max(model.get("frame") + does, 0), model.get("_video").frames - 1));
  });

  const heard = {
    "change:_video": showVideo, "change:_image": () => frame.showImage(), "change:_overlay": () => frame.showLabels(),
    "change:_objects": showObjects, "change:track": showObjects, "change:single": showObjects, "change:_marks": () => frame.draw(),
    "change:_lanes": () => lanes.show(), "change:_table": showTable, "change:_work": showWork, "change:_said": showSaid,
    "change:frame": showFrame, "change:contrast": showLook, "change:channel": showLook,
  };
  for (const [name, act] of Object.entries(heard)) model.on(name, act);
  const resized = new ResizeObserver(() => { frame.fit(); lanes.draw(); });
  resized.observe(left);
  showVideo();
  for (const act of [showLook, showFrame, showObjects, showTable, showWork, showSaid]) act();
  frame.showImage();
  frame.showLabels();
  lanes.show();
  return () => {
    resized.disconnect();
    for (const [name, act] of Object.entries(heard)) model.off(name, act);
  };
}

export default { render };
