"use strict";
(() => {
  const ROWS_A_PAGE = 25;
  const {tau, rows} = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const state = {statuses: new Set(), sort: "place", descending: false, page: 0};
  const open = new Set();
  let matching = rows;

  rows.forEach((row, place) => {
    row.place = place;
    const said = row.versions.flatMap((v) => v.parts.filter(([kind]) => kind !== "-"));
    const texts = [row.id, row.question.text, row.reference.text, said.map(([, t]) => t).join("")];
    row.haystack = texts.join("\n").toLowerCase();
  });

  // Texts of the rows become text nodes here and nowhere else.
  const node = (tag, properties = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name === "class") made.className = value;
      else made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null && child !== ""));
    return made;
  };
  const plain = (name) => (name || "").replaceAll("_", " ");
  const figure = (value, digits) => (value === null ? "" : value.toFixed(digits));
  const more = (count) =>
    count ? node("p", {class: "quiet"}, `${count.toLocaleString("en")} more characters`) : null;

  const SORTED_BY = {
    id: ["id", (row) => row.id],
    status: ["status", (row) => row.status],
    reason: ["reason", (row) => row.reason],
    question: ["question", (row) => row.question.text],
    cosine: ["cosine", (row) => row.cosine],
    mean: ["grade", (row) => row.mean],
    place: ["", (row) => row.place],
  };

  function compare(one, other) {
    const value = SORTED_BY[state.sort][1];
    const [a, b] = [value(one), value(other)];
    if (a === b) return one.place - other.place;
    if (a === null || a === "") return 1;
    if (b === null || b === "") return -1;
    const order = typeof a === "number" ? a - b : a.localeCompare(b, undefined, {numeric: true});
    return state.descending ? -order : order;
  }

  function refresh() {
    const words = find("text").value.toLowerCase().trim();
    const wanted = {reason: find("reason").value, source: find("source").value, split: find("split").value};
    matching = rows
      .filter((row) => !state.statuses.size || state.statuses.has(row.status))
      .filter((row) => Object.entries(wanted).every(([name, value]) => !value || row[name] === value))
      .filter((row) => row.haystack.includes(words))
      .sort(compare);
    state.page = 0;
    for (const chip of document.querySelectorAll("[data-status]")) {
      chip.setAttribute("aria-pressed", state.statuses.has(chip.dataset.status));
    }
    for (const head of document.querySelectorAll("th[data-sort]")) {
      const sorted = head.dataset.sort === state.sort;
      head.setAttribute("aria-sort", sorted ? (state.descending ? "descending" : "ascending") : "none");
    }
    find("sort").value = state.sort;
    find("direction").setAttribute("aria-pressed", state.descending);
    find("direction").textContent = state.descending ? "descending" : "ascending";
    show();
  }

  function show() {
    const pages = Math.max(1, Math.ceil(matching.length / ROWS_A_PAGE));
    const begin = state.page * ROWS_A_PAGE;
    const here = matching.slice(begin, begin + ROWS_A_PAGE);
    find("list").replaceChildren(...here.flatMap(lines));
    const count = matching.length.toLocaleString("en");
    find("tally").textContent = `${count} of ${rows.length.toLocaleString("en")} rows`;
    find("where").textContent = `page ${state.page + 1} of ${pages}`;
    find("previous").disabled = state.page === 0;
    find("next").disabled = state.page >= pages - 1;
  }

  function lines(row) {
    const button = node("button", {type: "button", class: "opener", "aria-expanded": open.has(row.place)}, row.id);
    const line = node("tr", {class: "line"},
      node("td", {class: "col-id"}, button),
      node("td", {class: "col-status"}, node("span", {class: `badge ${row.status}`}, plain(row.status))),
      node("td", {class: "col-reason"}, plain(row.reason)),
      node("td", {class: "col-question"}, node("div", {class: "clamp", dir: "auto"}, row.question.text)),
      node("td", {class: "col-number", "data-label": "cosine "}, figure(row.cosine, 3)),
      node("td", {class: "col-number", "data-label": "grade "}, figure(row.mean, 2)),
    );
    line.addEventListener("click", () => {
      if (getSelection().isCollapsed) toggle(row, line, button);
    });
    return open.has(row.place) ? [line, detail(row)] : [line];
  }

  function toggle(row, line, button) {
    if (open.delete(row.place)) line.nextElementSibling.remove();
    else {
      open.add(row.place);
      line.after(detail(row));
    }
    button.setAttribute("aria-expanded", open.has(row.place));
  }

  function detail(row) {
    const decided = [plain(row.status), `decided by ${row.stage}`, row.split, plain(row.reason), row.detail];
    const expected = row.expected.length ? node("p", {class: "quiet"}, "expected: ",
      ...row.expected.map((text) => node("bdi", {class: "expected"}, text))) : null;
    const cards = [reference(row), ...row.versions.map(version)];
    return node("tr", {class: "detail"}, node("td", {colspan: 6},
      node("p", {class: "decided"}, decided.filter(Boolean).join(" · ")),
      node("h2", {}, "Question"),
      row.question.text ? node("p", {class: "text", dir: "auto"}, row.question.text) : node("p", {class: "quiet"}, "not on file"),
      more(row.question.more),
      expected,
      node("div", {class: "cards"}, ...cards)));
  }

  function reference(row) {
    const text = row.reference.text || "not on file";
    return card("Reference", row.source === "reference", [],
      node("p", {class: "text", dir: "auto"}, text), more(row.reference.more));
  }

  function version(said) {
    const facts = [];
    if (said.passed !== undefined) {
      facts.push(["verdict", said.passed ? "passed" : plain(said.reason), said.passed ? "good" : "bad"]);
      facts.push(["cosine", said.cosine === null ? "none" : `${figure(said.cosine, 3)} (tau ${tau})`, ""]);
    } else {
      facts.push(["mean grade", said.mean === null ? "none" : figure(said.mean, 2), ""]);
      for (const {judge, grade} of said.votes) {
        facts.push([plain(judge), grade === null ? "failed, counts as 0" : figure(grade, 2), grade === null ? "bad" : ""]);
      }
    }
    if (said.guard !== null && !said.guard.length) facts.push(["guard", "passed", "good"]);
    for (const {rule, failed} of said.guard || []) facts.push([`guard: ${plain(rule)}`, failed || "failed", "bad"]);
    const tokens = said.tokens === undefined ? "" : `, ${said.tokens} tokens`;
    facts.push(["finish", `${plain(said.finish)}${tokens}`, said.finish === "stop" ? "" : "bad"]);
    if (said.error) facts.push(["error", said.error, "bad"]);
    const tags = {"=": "span", "+": "ins", "-": "del"};
    // The space behind a run is not marked.
    const parts = said.parts.flatMap(([kind, text]) =>
      [node(tags[kind], {}, text.trimEnd()), text.slice(text.trimEnd().length)]);
    const text = parts.length ? node("p", {class: "text", dir: "auto"}, ...parts) : node("p", {class: "quiet"}, "no text");
    return card(said.label, said.chosen, facts, text, more(said.more));
  }

  function card(label, isTarget, facts, ...body) {
    const list = node("dl", {}, ...facts.flatMap(([name, value, tone]) =>
      [node("dt", {}, name), node("dd", {class: tone}, node("bdi", {}, value))]));
    const badge = isTarget ? node("span", {class: "badge target"}, "target") : null;
    return node("section", {class: isTarget ? "card is-target" : "card"},
      node("h3", {}, label, badge), ...body.filter(Boolean), facts.length ? list : null);
  }

  function sortBy(name) {
    state.descending = state.sort === name && !state.descending;
    state.sort = name;
    refresh();
  }

  function turn(by) {
    state.page += by;
    show();
    find("rows").scrollIntoView();
  }

  for (const reason of [...new Set(rows.map((row) => row.reason).filter(Boolean))].sort()) {
    find("reason").append(node("option", {value: reason}, plain(reason)));
  }
  for (const head of document.querySelectorAll("th[data-sort]")) {
    const button = node("button", {type: "button"}, SORTED_BY[head.dataset.sort][0]);
    button.addEventListener("click", () => sortBy(head.dataset.sort));
    head.append(button);
  }
  for (const chip of document.querySelectorAll("[data-status]")) {
    chip.addEventListener("click", () => {
      const {status} = chip.dataset;
      if (!state.statuses.delete(status)) state.statuses.add(status);
      refresh();
    });
  }
  for (const link of document.querySelectorAll("[data-reason]")) {
    const {reason} = link.dataset;
    if (![...find("reason").options].some((option) => option.value === reason)) {
      link.replaceWith(link.textContent);
      continue;
    }
    link.addEventListener("click", () => {
      find("reason").value = reason;
      refresh();
      find("rows").scrollIntoView();
    });
  }
  let typing = 0;
  find("text").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(refresh, 120);
  });
  for (const id of ["reason", "source", "split"]) find(id).addEventListener("change", refresh);
  find("sort").addEventListener("change", () => {
    state.sort = find("sort").value;
    refresh();
  });
  find("direction").addEventListener("click", () => {
    state.descending = !state.descending;
    refresh();
  });
  find("reset").addEventListener("click", () => {
    state.statuses.clear();
    for (const id of ["text", "reason", "source", "split"]) find(id).value = "";
    refresh();
  });
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  find("previous").addEventListener("click", () => turn(-1));
  find("next").addEventListener("click", () => turn(1));
  find("list").addEventListener("keydown", (event) => {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (!step || !event.target.classList.contains("opener")) return;
    const openers = [...document.querySelectorAll(".opener")];
    const next = openers[openers.indexOf(event.target) + step];
    if (next) next.focus();
    event.preventDefault();
  });
  if (rows.length) open.add(0);  // what opening a row shows is seen at once
  refresh();
})();
