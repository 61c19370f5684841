(() => {
  const text = (row, k) => row.cells[k].textContent.trim();
  const key = (value) => { const number = parseFloat(value); return Number.isNaN(number) ? null : number; };
  const compare = (a, b) => {
    const x = key(a), y = key(b);
    if (x !== null && y !== null) return x - y;
    if (x !== null || y !== null) return x !== null ? -1 : 1;
    return a.localeCompare(b, "en");
  };
  const state = new URLSearchParams(location.hash.slice(1));
  for (const section of document.querySelectorAll("[data-table]")) {
    const table = section.querySelector("table"), body = table.tBodies[0], rows = [...body.rows];
    const search = section.querySelector("input"), status = section.querySelector("[role=status]");
    const id = section.dataset.table;
    let column = state.has(id + ".k") ? +state.get(id + ".k") : -1, direction = +(state.get(id + ".d") || 1);
    search.value = state.get(id + ".q") || "";
    const apply = (keep) => {
      const wanted = search.value.trim().toLowerCase();
      for (const row of rows) row.hidden = wanted !== "" && !row.textContent.toLowerCase().includes(wanted);
      const order = rows.map((row, i) => [row, i]);
      if (column >= 0) order.sort((x, y) => direction * compare(text(x[0], column), text(y[0], column)) || x[1] - y[1]);
      body.append(...order.map((entry) => entry[0]));
      [...table.tHead.rows[0].cells].forEach((cell, k) =>
        cell.setAttribute("aria-sort", k === column ? (direction > 0 ? "ascending" : "descending") : "none"));
      status.textContent = rows.filter((row) => !row.hidden).length + " of " + rows.length + " rows";
      if (!keep) return;
      for (const [name, value] of [["q", search.value], ["k", column], ["d", direction]]) state.set(id + "." + name, value);
      history.replaceState(null, "", "#" + state);
    };
    table.tHead.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const k = button.parentElement.cellIndex;
      direction = k === column ? -direction : 1;
      column = k;
      apply(true);
    });
    search.addEventListener("input", () => apply(true));
    section.querySelector(".action").addEventListener("click", () => {
      const guard = (value) => (/^[=+@-]/.test(value) && key(value) === null ? "'" + value : value);
      const line = (row) => [...row.cells].map((c) => '"' + guard(c.textContent.trim()).replaceAll('"', '""') + '"').join(",");
      const lines = [table.tHead.rows[0], ...[...body.rows].filter((row) => !row.hidden)].map(line);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([lines.join("\r\n")], { type: "text/csv" }));
      link.download = id + ".csv";
      link.click();
    });
    section.querySelector(".tools").hidden = false;
    apply(false);
  }
})();
