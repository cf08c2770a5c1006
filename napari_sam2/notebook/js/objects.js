// The list of objects and the table of counts.

/** The list of objects: choose one, name it, say of which kind it is. */
class Objects {
  constructor(model, say) {
    this.model = model;
    this.say = say;
    this.list = make("div", "sam2-objects");
    this.kinds = make("datalist");
    this.kinds.id = `sam2-kinds-${Math.random().toString(36).slice(2)}`;
  }

  draw() {
    const objects = this.model.get("_objects");
    if (this.list.contains(document.activeElement) && document.activeElement.tagName === "INPUT") return; // not while one types
    this.list.replaceChildren(...objects.map((each) => this.row(each)));
    const kinds = [...new Set(objects.map((each) => each.category))].filter(Boolean);
    this.kinds.replaceChildren(...kinds.map((kind) => Object.assign(make("option"), { value: kind })));
    this.reveal(this.list.querySelector(".sam2-on"));
  }

  /** Scrolls the list, and nothing but the list, to a row. */
  reveal(row) {
    const { scrollTop, clientHeight } = this.list;
    if (row && (row.offsetTop < scrollTop || row.offsetTop + row.offsetHeight > scrollTop + clientHeight)) {
      this.list.scrollTop = row.offsetTop - clientHeight / 2;
    }
  }

  row(each) {
    const row = make("div", each.id === this.model.get("track") ? "sam2-object sam2-on" : "sam2-object");
    const swatch = make("span", "sam2-swatch");
    swatch.style.background = each.colour;
    const count = make("span", "", each.frames ? `${each.frames} fr.` : "new");
    count.title = "frames it is on";
    row.append(swatch, make("b", "", String(each.id)), this.field(each, "name"), this.field(each, "category"), count);
    row.addEventListener("click", () => { this.model.set("track", each.id); this.model.save_changes(); });
    return row;
  }

  field(each, name) {
    const field = make("input");
    field.value = field.title = each[name];
    field.placeholder = name;
    field.setAttribute("aria-label", `${name} of object ${each.id}`);
    if (name === "category") field.setAttribute("list", this.kinds.id);
    field.addEventListener("keydown", (event) => { event.stopPropagation(); if (event.key === "Enter") field.blur(); });
    field.addEventListener("change", () => this.say({ kind: "describe", track: each.id, [name]: field.value }));
    return field;
  }
}

/** Objects by category, on this frame and in the stack. */
function drawTable(table, rows) {
  const line = (kind, values) => {
    const made = make("tr");
    made.append(...values.map((value) => make(kind, "", String(value))));
    return made;
  };
  const body = rows.map((row) => line("td", [row.category, row.frame, row.stack]));
  table.replaceChildren(line("th", ["category", "this frame", "stack"]), ...body);
}
