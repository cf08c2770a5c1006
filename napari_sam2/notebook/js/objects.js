// The list of objects and the table of counts.

/** The list of objects: select one, name it, give it a category. */
class Objects {
  constructor(model, send) {
    this.model = model;
    this.send = send;
    this.list = makeElement("div", "sam2-objects");
    this.categories = makeElement("datalist");
    this.categories.id = `sam2-categories-${Math.random().toString(36).slice(2)}`;
  }

  draw() {
    const objects = this.model.get("object_rows");
    const active = document.activeElement;
    if (this.list.contains(active) && active.tagName === "INPUT") return; // the user is typing
    this.list.replaceChildren(...objects.map((object) => this.makeRow(object)));
    const categories = [...new Set(objects.map((object) => object.category))].filter(Boolean);
    this.categories.replaceChildren(
      ...categories.map((category) => Object.assign(makeElement("option"), { value: category })),
    );
    this.scrollTo(this.list.querySelector(".sam2-selected"));
  }

  /** Scrolls to a row within the list; scrollIntoView would move the notebook too. */
  scrollTo(row) {
    if (!row) return;
    const { scrollTop, clientHeight } = this.list;
    const bottom = row.offsetTop + row.offsetHeight;
    if (row.offsetTop < scrollTop || bottom > scrollTop + clientHeight) {
      this.list.scrollTop = row.offsetTop - clientHeight / 2;
    }
  }

  makeRow(object) {
    const row = makeElement("div", "sam2-object");
    if (object.id === this.model.get("track")) row.classList.add("sam2-selected");
    const swatch = makeElement("span", "sam2-swatch");
    swatch.style.background = object.colour;
    const count = makeElement("span", "", object.frames ? `${object.frames} fr.` : "new");
    count.title = "number of frames with this object";
    const name = this.makeField(object, "name"), category = this.makeField(object, "category");
    row.append(swatch, makeElement("b", "", String(object.id)), name, category, count);
    row.addEventListener("click", () => {
      this.model.set("track", object.id);
      this.model.save_changes();
    });
    return row;
  }

  makeField(object, key) {
    const field = makeElement("input");
    field.value = field.title = object[key];
    field.placeholder = key;
    field.setAttribute("aria-label", `${key} of object ${object.id}`);
    if (key === "category") field.setAttribute("list", this.categories.id);
    field.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") field.blur();
    });
    field.addEventListener("change", () => {
      this.send({ kind: "describe", track: object.id, [key]: field.value });
    });
    return field;
  }
}

/** Shows the number of objects by category, on this frame and in the stack. */
function drawTable(table, rows) {
  const makeLine = (tag, values) => {
    const line = makeElement("tr");
    line.append(...values.map((value) => makeElement(tag, "", String(value))));
    return line;
  };
  const body = rows.map((row) => makeLine("td", [row.category, row.frame, row.stack]));
  table.replaceChildren(makeLine("th", ["category", "this frame", "stack"]), ...body);
}
