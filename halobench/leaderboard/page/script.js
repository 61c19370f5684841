(() => {
  "use strict";
  const number = (text) => { const value = parseFloat(text); return Number.isNaN(value) ? null : value; };
  // what is missing comes last in either direction
  const compare = (a, b, direction) => {
    if (a === "" || a === null) return b === "" || b === null ? 0 : 1;
    if (b === "" || b === null) return -1;
    return direction * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en"));
  };
  const key = (cell, isText) => {
    const text = cell.textContent.trim();
    return isText ? text : text === "-" ? "" : number(text) ?? text;
  };
  const INTERVAL = /^([-+\d.]\S*)(?: \[(\S+), (\S+)\])? ?(.*)$/;
  const field = (text) => {
    const value = text.replace(/\s+/g, " ").trim();
    const guarded = /^[=+\-@\t\r]/.test(text) && !/^[-+]?[\d.]+(e[-+]?\d+)?$/.test(value) ? "'" + value : value;
    return '"' + guarded.replaceAll('"', '""') + '"';
  };
  const download = (name, lines) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.map((line) => line.map(field).join(",")).join("\r\n")], { type: "text/csv" }));
    link.download = name + ".csv";
    link.click();
  };
  const copy = async (text, status) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    status.textContent = "Copied.";
  };
  const readState = () => new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  const keepState = (state) => history.replaceState(null, "", "#" + state);
  const showSort = (headers, current, direction) => {
    for (const header of headers)
      header.setAttribute("aria-sort", header === current ? (direction > 0 ? "ascending" : "descending") : "none");
  };

  // any table: sort, filter, CSV
  for (const section of document.querySelectorAll("[data-table]")) {
    const table = section.querySelector("table"), body = table.tBodies[0], rows = [...body.rows];
    const headers = [...table.tHead.rows[0].cells], search = section.querySelector("input");
    const status = section.querySelector("[role=status]"), id = section.dataset.table;
    const state = readState();
    let column = state.has(id + ".k") ? Number(state.get(id + ".k")) : -1, direction = Number(state.get(id + ".d") || 1);
    search.value = state.get(id + ".q") || "";
    const apply = (keep) => {
      const wanted = search.value.trim().toLowerCase();
      for (const row of rows) row.hidden = wanted !== "" && !row.textContent.toLowerCase().includes(wanted);
      if (headers[column]) {
        const keys = new Map(rows.map((row) => [row, key(row.cells[column], row.cells[column].tagName === "TH")]));
        body.append(...[...rows].sort((a, b) => compare(keys.get(a), keys.get(b), direction)));
      }
      showSort(headers, headers[column], direction);
      status.textContent = rows.filter((row) => !row.hidden).length + " of " + rows.length + " rows";
      if (!keep) return;
      const now = readState();
      for (const [name, value] of [["q", search.value], ["k", column < 0 ? "" : column], ["d", direction < 0 ? -1 : ""]])
        if (value === "") now.delete(id + "." + name); else now.set(id + "." + name, value);
      keepState(now);
    };
    table.tHead.addEventListener("click", (event) => {
      const header = event.target.closest("th");
      if (!event.target.closest("button")) return;
      direction = header.cellIndex === column ? -direction : 1;
      column = header.cellIndex;
      apply(true);
    });
    search.addEventListener("input", () => apply(true));
    section.querySelector("[data-do=csv]").addEventListener("click", () => {
      const lines = [table.tHead.rows[0], ...[...body.rows].filter((row) => !row.hidden)];
      download(id, lines.map((row) => [...row.cells].map((cell) => cell.textContent)));
    });
    section.querySelector(".tools").hidden = false;
    apply(false);
  }

  // samples: only those where one wins and the other does not
  for (const box of document.querySelectorAll("[data-do=disagree]")) {
    const part = box.closest(".samples"), all = [...part.querySelectorAll("article")];
    const status = part.querySelector("[role=status]");
    const apply = () => {
      for (const article of all) article.hidden = box.checked && !("disagree" in article.dataset);
      status.textContent = all.filter((article) => !article.hidden).length + " of " + all.length + " prompts";
    };
    box.checked = readState().get("disagree") === "1";
    box.addEventListener("change", () => {
      const now = readState();
      if (box.checked) now.set("disagree", "1"); else now.delete("disagree");
      keepState(now);
      apply();
    });
    box.closest(".tools").hidden = false;
    apply();
  }
  for (const button of document.querySelectorAll("[data-copy]")) {
    const tools = button.closest(".tools");
    button.addEventListener("click", () => copy(document.getElementById(button.dataset.copy).textContent, tools.querySelector("[role=status]")));
    tools.hidden = false;
  }

  // the board: rows are sorted within their setting
  const board = document.getElementById("board");
  if (!board) return;
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = board.querySelector("form"), status = form.querySelector("[role=status]");
  const table = board.querySelector("table"), headRow = table.tHead.rows[0];
  const titles = new Map(data.columns);
  const headers = new Map([...headRow.cells].map((th) => [th.dataset.key, th]));
  const boxes = new Map([...form.elements].filter((e) => e.name === "column").map((e) => [e.value, e]));
  const settings = [...table.tBodies].map((body, b) => {
    const [head, ...rows] = body.rows;
    const suite = body.dataset.suite;
    return {
      body, head, suite, data: data.boards[b], count: head.querySelector("span").textContent,
      rows: rows.map((tr, index) => ({
        tr, index, keys: {}, name: tr.querySelector("th").textContent, cells: new Map([...tr.cells].map((td, k) => [headRow.cells[k].dataset.key, td])),
        text: (suite + " " + tr.textContent).toLowerCase(), loss: tr.dataset.loss, level: tr.dataset.level,
      })),
    };
  });
  for (const setting of settings) setting.order = setting.rows;
  const DEFAULTS = [...boxes.values()].filter((box) => box.defaultChecked).map((box) => box.value).join();
  let sorted = { key: "", direction: 1 }, baseline = "";

  const addColumn = (name) => {
    const th = document.createElement("th"), button = document.createElement("button");
    th.scope = "col";
    th.dataset.key = name;
    th.setAttribute("aria-sort", "none");
    button.type = "button";
    button.textContent = titles.get(name);
    th.append(button);
    headRow.append(th);
    headers.set(name, th);
    for (const setting of settings) {
      const texts = setting.data.more[name] || [];
      for (const row of setting.rows) {
        const td = document.createElement("td");
        fill(td, texts[row.index] || "");
        row.tr.append(td);
        row.cells.set(name, td);
      }
      setting.head.cells[0].colSpan = headRow.cells.length;
    }
  };
  const fill = (cell, text) => {
    const at = text.indexOf(" [");
    cell.replaceChildren(at < 0 ? text : text.slice(0, at));
    if (at < 0) return;
    const small = document.createElement("small");
    small.textContent = text.slice(at + 1);
    cell.append(" ", small);
  };
  const showColumns = () => {
    for (const [name, box] of boxes) {
      if (box.checked && !headers.has(name)) addColumn(name);
      const th = headers.get(name);
      if (!th || th.hidden === !box.checked) continue;
      th.hidden = !box.checked;
      for (const setting of settings) for (const row of setting.rows) row.cells.get(name).hidden = !box.checked;
    }
    const shown = [...headers.values()].filter((th) => !th.hidden).length;
    for (const setting of settings) setting.head.cells[0].colSpan = shown;
  };

  // Many rows: each setting is laid out only when it comes into view, as a grid of the widths that the table has.
  const isLarge = table.rows.length > 400;
  const ROLES = { TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TR: "row", TD: "cell" };
  const layOut = () => {
    if (!isLarge) return;
    table.classList.remove("lazy");
    const widths = [...headRow.cells].filter((th) => !th.hidden).map((th) => th.getBoundingClientRect().width + "px");
    const row = settings[0].rows[0].tr.getBoundingClientRect().height, head = settings[0].head.getBoundingClientRect().height;
    table.style.setProperty("--widths", widths.join(" "));
    for (const setting of settings) setting.height = (shown) => `${head + shown * row}px`;
    for (const part of [table, ...table.querySelectorAll("thead, tbody, tr, td, th")])
      if (!part.hasAttribute("role")) part.setAttribute("role", ROLES[part.tagName] || (part.scope === "col" ? "columnheader" : "rowheader"));
    table.classList.add("lazy");
  };

  const signed = (value) => (value < 0 ? "" : "+") + value.toFixed(3);
  const difference = (setting, row, other, decode) => {
    for (const [a, b, d, mean, low, high, verdict, mirrored] of setting.data.compared) {
      const same = a === row.index && b === other.index;
      if (d !== decode || !(same || (a === other.index && b === row.index))) continue;
      const ends = same ? [low, high] : [high === null ? null : -high, low === null ? null : -low];
      const text = signed(same ? mean : -mean);
      return text + (low === null ? " [n/a, n/a]" : ` [${signed(ends[0])}, ${signed(ends[1])}]`) + " " + data.verdicts[same ? verdict : mirrored];
    }
    const values = setting.data.estimates[decode], mine = values[row.index], its = values[other.index];
    return mine == null || its == null ? "" : signed(mine - its) + " not tested";
  };
  const pin = (name) => {
    if (name === baseline) return;
    baseline = name;
    table.classList.toggle("pinned", name !== "");
    for (const setting of settings) {
      const other = setting.rows.find((row) => row.name === name);
      setting.head.querySelector("span").textContent = setting.count + (name && !other ? "; has no row of this name: estimates" : "");
      for (const row of setting.rows) ["primary", "second"].forEach((column, decode) => {
        const cell = row.cells.get(column);
        row.kept ??= {};
        row.kept[column] ??= [...cell.childNodes];
        cell.classList.remove("untested");
        if (!other) cell.replaceChildren(...row.kept[column]);
        else if (row === other) cell.replaceChildren(row.kept[column].length ? "baseline" : "");
        else {
          const text = difference(setting, row, other, decode);
          fill(cell, text);
          cell.classList.toggle("untested", text.endsWith("not tested"));
        }
        delete row.keys[column];
      });
    }
  };

  const filter = () => {
    const { q, suite, loss, level } = form.elements, wanted = q.value.trim().toLowerCase();
    let rows = 0, all = 0, shown = 0;
    for (const setting of settings) {
      let here = 0;
      for (const row of setting.rows) {
        const hide = (suite.value !== "" && setting.suite !== suite.value) || (loss.value !== "" && row.loss !== loss.value) || (level.value !== "" && row.level !== level.value) || (wanted !== "" && !row.text.includes(wanted));
        if (row.tr.hidden !== hide) row.tr.hidden = hide;
        if (!hide) here += 1;
      }
      if (setting.body.hidden !== (here === 0)) setting.body.hidden = here === 0;
      if (isLarge) setting.body.style.containIntrinsicBlockSize = setting.height(here);
      all += setting.rows.length;
      rows += here;
      shown += here > 0;
    }
    status.textContent = `${rows} of ${all} rows in ${shown} of ${settings.length} settings`;
  };
  const sort = () => {
    const { key: name, direction } = sorted, th = headers.get(name), isText = th && "text" in th.dataset;
    for (const setting of settings) {
      const keyOf = (row) => (row.keys[name] === undefined ? (row.keys[name] = key(row.cells.get(name), isText)) : row.keys[name]);
      const order = th ? [...setting.rows].sort((a, b) => compare(keyOf(a), keyOf(b), direction) || a.index - b.index) : setting.rows;
      if (order.some((row, k) => row !== setting.order[k])) setting.body.append(...order.map((row) => row.tr));
      setting.order = order;
    }
    showSort(headRow.cells, th, direction);
  };
  const write = () => {
    const state = new URLSearchParams();
    for (const name of ["q", "suite", "loss", "level", "baseline"]) if (form.elements[name].value) state.set(name, form.elements[name].value);
    if (sorted.key) state.set("sort", (sorted.direction < 0 ? "-" : "") + sorted.key);
    const columns = [...boxes.values()].filter((box) => box.checked).map((box) => box.value).join();
    if (columns !== DEFAULTS) state.set("columns", columns);
    const text = state.toString();
    history.replaceState(null, "", text ? "#" + text : location.pathname + location.search);
  };
  const read = () => {
    const state = readState();
    for (const name of ["q", "suite", "loss", "level", "baseline"]) form.elements[name].value = state.get(name) || "";
    const wanted = (state.get("columns") ?? DEFAULTS).split(",");
    for (const [name, box] of boxes) box.checked = wanted.includes(name);
    const by = state.get("sort") || "";
    sorted = { key: by.replace(/^-/, ""), direction: by.startsWith("-") ? -1 : 1 };
    showColumns();
    pin(form.elements.baseline.value);
    layOut();
    sort();
    filter();
  };
  table.tHead.addEventListener("click", (event) => {
    const th = event.target.closest("button") && event.target.closest("th");
    if (!th) return;
    const name = th.dataset.key, first = "text" in th.dataset || name === "rank" ? 1 : -1;
    // the best first, then the other way round, then as it was
    if (sorted.key !== name) sorted = { key: name, direction: first };
    else sorted = sorted.direction === first ? { key: name, direction: -first } : { key: "", direction: 1 };
    sort();
    write();
  });
  form.addEventListener("input", (event) => {
    if (event.target.name === "column") { showColumns(); layOut(); }
    else if (event.target.name === "baseline") { pin(event.target.value); layOut(); sort(); }
    else filter();
    write();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("click", (event) => {
    const action = event.target.dataset.do;
    if (action === "link") copy(location.href, status);
    if (action === "reset") {
      history.replaceState(null, "", location.pathname + location.search);
      read();
    }
    if (action !== "csv") return;
    const shown = [...headRow.cells].filter((th) => !th.hidden).map((th) => th.dataset.key);
    const rows = settings.flatMap((s) => s.order.filter((row) => !row.tr.hidden).map((row) => [s.suite, shown.map((name) => row.cells.get(name).textContent.trim())]));
    const parts = shown.map((name, k) => {
      if (name === "rank") return ["lowest", "highest"];
      if (!rows.some(([, cells]) => INTERVAL.exec(cells[k])?.[2])) return [""];
      return ["", "low", "high", ...(baseline && (name === "primary" || name === "second") ? ["verdict"] : [])];
    });
    const spread = (text, k) => {
      if (parts[k].length === 1) return [text];
      if (shown[k] === "rank") return text === "-" ? ["", ""] : [text.split("-")[0], text.split("-").at(-1)];
      const found = INTERVAL.exec(text);
      return (found ? found.slice(1) : ["", "", "", text]).slice(0, parts[k].length).map((part) => part || "");
    };
    const names = shown.flatMap((name, k) => parts[k].map((part) => headers.get(name).textContent + (part && ", " + part)));
    download("board", [["Suite", ...names], ...rows.map(([suite, cells]) => [suite, ...cells.flatMap(spread)])]);
  });
  addEventListener("hashchange", () => { if (location.hash === "" || location.hash.includes("=")) read(); });
  form.hidden = false;
  read();
})();
