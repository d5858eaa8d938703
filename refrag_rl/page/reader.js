// The reader: one window's text, what a selector expands in it, and what that is worth.
// Texts are written by textContent only; nothing in them is ever read as HTML.
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("reader-data").textContent);
  const element = (id) => document.getElementById(id);
  const controls = ["window", "selector", "budget", "colour"].map((id) => element(id));
  const [chosenWindow, chosenSelector, chosenBudget, chosenColour] = controls;
  const detail = element("detail");

  const TINTS = {
    probability:
      "Tint: the probability that the chunk is among the expanded ones, were the selection drawn.",
    score: "Tint: the rule's score, from the window's lowest (none) to its highest (full).",
    selection: "Tint: the expanded chunks; this selector tells no more than its selection.",
  };
  // Nats at which a token has its full colour.
  const COLOURS = {
    gain: { full: 2, note: "Blue: likelier with the expanded chunks than without; orange: less likely." },
    with: { full: 8, note: "Grey: the less likely with the expanded chunks, the darker." },
    without: { full: 8, note: "Grey: the less likely with nothing expanded, the darker." },
  };

  const signed = (value) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(2);
  const negative = (value) => signed(value).replace("+", "");

  function fill(select, labels) {
    labels.forEach((label, index) => {
      const option = document.createElement("option");
      option.value = String(index);
      option.textContent = label;
      select.append(option);
    });
  }

  function span(text, kind, strength, described) {
    const item = document.createElement("span");
    item.className = kind;
    // A line break alone could not be seen, nor its colour.
    item.textContent = text.replaceAll("\n", "\u21b5\n");
    item.style.setProperty("--strength", String(strength));
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", "false");
    item.setAttribute("aria-description", described);
    item.dataset.detail = described;
    item.tabIndex = -1;
    return item;
  }

  function show() {
    const shown = data.windows[Number(chosenWindow.value)];
    const selector = Number(chosenSelector.value);
    const choice = shown.choices[selector][Number(chosenBudget.value)];
    showAbout(shown, choice);
    showContext(shown, choice, data.selectors[selector].tint);
    showOutput(shown, choice);
    element("previous").disabled = chosenWindow.selectedIndex === 0;
    element("next").disabled = chosenWindow.selectedIndex === data.windows.length - 1;
    detail.textContent = "";
  }

  function showAbout(shown, choice) {
    const tokens = shown.pieces.reduce((sum, [, count]) => sum + count, 0);
    const [without, expanded] = [0, choice.set].map(
      (set) => -shown.sets[set].log_likelihood.reduce((sum, value) => sum + value, 0) / tokens,
    );
    element("about").textContent = `${shown.document} (${shown.domain})`;
    element("levels").textContent =
      `Log-perplexity of the next paragraph, nats per token: ${expanded.toFixed(4)} with the ` +
      `expanded chunks, ${without.toFixed(4)} with nothing expanded; difference ` +
      `${signed(expanded - without)} (lower is better).`;
  }

  function showContext(shown, choice, tint) {
    const expanded = new Set(shown.sets[choice.set].expanded);
    const list = element("context");
    list.replaceChildren();
    shown.chunks.forEach((chunk, index) => {
      if (index === 0 || chunk.passage !== shown.chunks[index - 1].passage) {
        list.append(passageTitle(shown, chunk.passage));
      }
      const strength = choice.tint[index];
      const facts = [
        `Chunk ${index + 1} of ${shown.chunks.length}`,
        expanded.has(index) ? "expanded" : "compressed",
      ];
      if (tint !== "selection") facts.push(`${tint} ${strength.toFixed(2)}`);
      if (chunk.planted) facts.push("planted");
      const kind = expanded.has(index) ? "chunk expanded" : "chunk";
      list.append(span(chunk.text, kind, strength, facts.join(", ")));
    });
    start(list);
    element("tint-note").textContent = `Underlined: expanded. ${TINTS[tint]}`;
    const prompt = shown.prompt === "" ? "There is no prompt." : shown.prompt;
    element("prompt").textContent = prompt;
    element("prompt").classList.toggle("note", shown.prompt === "");
    element("prompt-place").textContent =
      `${shown.prompt_position} the context; its tokens are never compressed`;
  }

  function passageTitle(shown, passage) {
    const title = document.createElement("span");
    title.className = "passage";
    title.setAttribute("role", "presentation");
    const score = shown.passage_scores[passage];
    title.textContent = `Passage ${passage + 1}` + (score ? `, retrieval score ${score}` : "");
    return title;
  }

  function showOutput(shown, choice) {
    const { full, note } = COLOURS[chosenColour.value];
    const list = element("output");
    list.replaceChildren();
    shown.pieces.forEach(([text, tokens], index) => {
      const expanded = shown.sets[choice.set].log_likelihood[index];
      const without = shown.sets[0].log_likelihood[index];
      const value = { gain: expanded - without, with: expanded, without }[chosenColour.value];
      const kind = chosenColour.value !== "gain" ? "surprise" : value >= 0 ? "better" : "worse";
      const strength = Math.min(1, Math.abs(value) / full);
      const what = tokens === 1 ? `Token ${index + 1}` : `${tokens} tokens, one character`;
      const described =
        `${what}, log-likelihood in nats: with ${negative(expanded)}, ` +
        `without ${negative(without)}, gain ${signed(expanded - without)}`;
      list.append(span(text, `token ${kind}`, strength, described));
    });
    start(list);
    element("colour-note").textContent = note;
  }

  // One item of a list can be reached by Tab, the others by the arrow keys from there.
  function start(list) {
    const first = list.querySelector("[role=option]");
    if (first) first.tabIndex = 0;
  }

  function move(event) {
    const items = [...event.currentTarget.querySelectorAll("[role=option]")];
    const here = items.indexOf(document.activeElement);
    const steps = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1,
      Home: 0, End: items.length - 1 };
    if (here < 0 || !(event.key in steps)) return;
    event.preventDefault();
    const target = items[Math.min(items.length - 1, Math.max(0, steps[event.key]))];
    target.focus();
  }

  function tell(event) {
    const item = event.target.closest("[role=option]");
    if (!item) return;
    detail.textContent = item.dataset.detail;
    if (event.type !== "focusin") return;
    for (const other of event.currentTarget.querySelectorAll("[tabindex='0']")) {
      other.tabIndex = -1;
      other.setAttribute("aria-selected", "false");
    }
    item.tabIndex = 0;
    item.setAttribute("aria-selected", "true");
  }

  function step(by) {
    chosenWindow.selectedIndex += by;
    show();
  }

  fill(chosenWindow, data.windows.map(
    (each, index) => `${index + 1} of ${data.windows.length}: ${each.document}`,
  ));
  fill(chosenSelector, data.selectors.map((each) => each.name));
  fill(chosenBudget, data.budgets);
  controls.forEach((control) => control.addEventListener("change", show));
  element("previous").addEventListener("click", () => step(-1));
  element("next").addEventListener("click", () => step(1));
  for (const list of [element("context"), element("output")]) {
    list.addEventListener("keydown", move);
    for (const kind of ["focusin", "pointerover"]) list.addEventListener(kind, tell);
  }
  element("reader-body").hidden = false;
  show();
})();
