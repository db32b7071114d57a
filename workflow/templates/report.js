"use strict";
(() => {
  const rows = [...document.querySelectorAll("#ledger tbody tr")];
  const body = document.querySelector("#ledger tbody");
  const form = document.getElementById("filters");
  const search = document.getElementById("search");
  const count = document.getElementById("count");
  const keys = ["verdict", "scope", "section", "model"];
  const select = (key) => document.getElementById(`by-${key}`);
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  form.classList.remove("noscript");

  const fits = (row, key) => {
    const wanted = select(key).value;
    const has = row.dataset[key];
    return !wanted || has === wanted || (key === "model" && has.split(" ").includes(wanted));
  };
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = texts.get(row);
      row.hidden = !(keys.every((key) => fits(row, key)) && words.every((w) => text.includes(w)));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} claims`;
  };
  const clear = () => { form.reset(); apply(); };
  form.addEventListener("input", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const card of document.querySelectorAll(".card")) {
    card.addEventListener("click", () => { form.reset(); select("verdict").value = card.dataset.verdict; apply(); });
  }

  const order = ["fails", "mixed", "undecided", "holds", "not_run"];
  const number = (text) => { const m = text.replace(/,/g, "").match(/-?\d+(\.\d+)?(e[-+]?\d+)?/i); return m ? +m[0] : Infinity; };
  const value = {
    text: (row, i) => row.cells[i].textContent.trim().toLowerCase(),
    section: (row) => row.dataset.section,
    outcome: (row) => order.indexOf(row.dataset.verdict),
    number: (row, i) => number(row.cells[i].textContent),
  };
  const compare = (a, b) => (typeof a === "number" ? (a === b ? 0 : a < b ? -1 : 1) : a.localeCompare(b, "en", { numeric: true }));
  document.querySelectorAll("#ledger th").forEach((head, i) => {
    if (!head.dataset.sort) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      document.querySelectorAll("#ledger th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const of = (row) => value[head.dataset.sort](row, i);
      const sorted = [...rows].sort((a, b) => (down ? -1 : 1) * compare(of(a), of(b)) || a.dataset.n - b.dataset.n);
      body.append(...sorted);
    });
  });

  const follow = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.hidden) { clear(); target.scrollIntoView(); }
  };
  addEventListener("hashchange", follow);
  addEventListener("beforeprint", () => rows.forEach((row) => { row.hidden = false; }));
  addEventListener("afterprint", apply);
  apply();
})();
