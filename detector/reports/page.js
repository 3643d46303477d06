"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const fold = (text) => text.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "");
  const tools = byId("tools");
  const status = byId("status");
  const list = byId("cards");
  const chips = [...document.querySelectorAll("button[data-kind]")];
  const order = new Intl.Collator(undefined, { numeric: true });

  // What is recorded of a picture's generation; filters for it are there only where it is.
  const made = (node) => ({
    model: node.dataset.model ?? "-",
    way: node.dataset.way ?? "-",
    prompt: node.dataset.prompt ?? "-",
  });
  const chosen = (name) => tools.elements[name]?.value ?? "";

  const cards = list ? [...list.children].map((node, place) => ({
    node, place, shown: true,
    kind: node.dataset.kind,
    level: Number(node.dataset.level),
    score: Number(node.dataset.score),
    name: node.dataset.name,
    licences: node.dataset.licences,
    find: node.dataset.find,
    ...made(node),
  })) : [];

  // Rows are read on the first search only: a page may hold many thousands.
  const lists = [...document.querySelectorAll("details.list")].map((node) => ({
    node, kind: node.dataset.kind, rows: null, count: Number(node.dataset.count),
  }));
  const rowsOf = (part) => {
    part.rows ??= [...part.node.querySelectorAll("li")].map((node) => ({
      node, shown: true,
      kind: node.dataset.kind ?? part.kind,
      level: node.dataset.level ?? "",
      licences: node.dataset.licences ?? "",
      find: `${fold(node.textContent)} ${node.dataset.find ?? ""}`,
      ...made(node),
    }));
    return part.rows;
  };

  let kind = "";
  let groups = [];
  const show = (item, wanted) => {
    if (item.shown !== wanted) {
      item.shown = wanted;
      item.node.hidden = !wanted;
    }
    return wanted ? 1 : 0;
  };

  const apply = () => {
    const words = fold(tools.elements.find.value).split(/\s+/).filter(Boolean);
    const level = tools.elements.level.value;
    const licence = tools.elements.licence.value;
    const model = chosen("model");
    const way = chosen("way");
    const plain = !words.length && !level && !licence && !model && !way;
    const fits = (item) =>
      (!kind || item.kind === kind) &&
      (!level || String(item.level) === level) &&
      (!licence || item.licences.includes(` ${licence} `)) &&
      (!model || item.model === model) &&
      (!way || item.way === way) &&
      words.every((word) => item.find.includes(word));

    let found = 0;
    for (const card of cards) found += show(card, fits(card));
    for (const group of groups) count(group);
    let listed = 0;
    for (const part of lists) {
      let count = part.count;
      if (!plain || part.rows || part.kind === "more") {
        count = 0;
        for (const row of rowsOf(part)) count += show(row, fits(row));
      } else if (kind && kind !== part.kind) {
        count = 0;
      }
      part.node.hidden = !count;
      const open = count > 0 && (words.length > 0 || (kind !== "" && kind === part.kind));
      if (open) { part.node.open = true; part.opened = true; }
      else if (part.opened) { part.node.open = false; part.opened = false; }
      listed += count;
    }
    for (const chip of chips) chip.setAttribute("aria-pressed", String(chip.dataset.kind === kind));
    byId("none").hidden = found + listed > 0;
    byId("findings").hidden = found === 0 && listed > 0;
    const narrowed = kind || !plain;
    byId("show-all").hidden = !narrowed;
    status.textContent = !narrowed ? "" :
      `${found.toLocaleString("en")} of ${cards.length.toLocaleString("en")} findings shown` +
      (listed ? `, ${listed.toLocaleString("en")} in the lists below` : "");
  };

  const sorts = {
    level: (a, b) => a.place - b.place,
    score: (a, b) => b.score - a.score || a.place - b.place,
    name: (a, b) => order.compare(a.name, b.name) || a.place - b.place,
  };
  const count = (group) => {
    const shown = group.members.filter((card) => card.shown).length;
    group.node.hidden = !shown;
    group.number.textContent = shown.toLocaleString("en");
  };
  const heading = (by, card) => {
    const node = document.createElement("li");
    const title = node.appendChild(document.createElement("h3"));
    const number = document.createElement("span");
    node.className = "group";
    number.className = "count";
    const option = [...(tools.elements.model?.options ?? [])].find((each) => each.value === card.model);
    const prompt = card.node.querySelector(".prompt")?.textContent ?? "";
    const short = prompt.length > 200 ? `${prompt.slice(0, 199)}…` : prompt;
    title.append((by === "model" ? option?.textContent : short && `“${short}”`) || "Not recorded", " ", number);
    return { node, number, members: [] };
  };
  const arrange = () => {
    if (!list) return;
    const by = chosen("group");
    const keyed = new Map();
    for (const card of [...cards].sort(sorts[tools.elements.sort.value])) {
      const key = by && card[by];
      if (!keyed.has(key)) keyed.set(key, heading(by, card));
      keyed.get(key).members.push(card);
    }
    groups = by ? [...keyed.values()] : [];
    for (const group of groups) count(group);
    const nodes = [...keyed.values()].flatMap((group) =>
      [...(by ? [group.node] : []), ...group.members.map((card) => card.node)]);
    list.replaceChildren(...nodes);
  };

  let waiting = 0;
  tools.addEventListener("input", (event) => {
    if (event.target.name === "sort" || event.target.name === "group") { arrange(); return; }
    if (event.target.name === "regions") {
      document.documentElement.classList.toggle("bare", !event.target.checked);
      return;
    }
    clearTimeout(waiting);
    waiting = setTimeout(apply, event.target.name === "find" ? 120 : 0);
  });
  tools.addEventListener("submit", (event) => event.preventDefault());
  byId("show-all").addEventListener("click", () => {
    for (const name of ["find", "level", "licence", "model", "way"]) {
      if (tools.elements[name]) tools.elements[name].value = "";
    }
    kind = "";
    apply();
    tools.elements.find.focus();
  });
  for (const chip of chips) {
    chip.disabled = false;
    chip.addEventListener("click", () => {
      kind = kind === chip.dataset.kind ? "" : chip.dataset.kind;
      apply();
    });
  }
  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll(".card details")) part.open = true;
  });
  tools.hidden = false;
  // A browser that restores form fields on reload would otherwise show a filter that is not applied.
  tools.reset();
  apply();
})();
