/*
 * The dashboard, live: when the stream says that something has changed, the page is fetched again
 * and what differs is put in place, so that the cursor, what was typed and what was opened stay.
 * Buttons send JSON to the control API.
 */
(() => {
  "use strict";

  // ---------------------------------------------------------------- putting differences in place

  const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.dataset.key : undefined);
  const kept = new Set(["open"]); // what the person has done, not the server

  /** Makes `from` like `to`, keeping the nodes that stay. */
  function morph(from, to) {
    if (from.nodeType === Node.TEXT_NODE) {
      if (from.data !== to.data) from.data = to.data;
      return;
    }
    for (const { name, value } of [...to.attributes]) {
      if (!kept.has(name) && from.getAttribute(name) !== value) from.setAttribute(name, value);
    }
    for (const { name } of [...from.attributes]) {
      if (!kept.has(name) && !to.hasAttribute(name)) from.removeAttribute(name);
    }
    morphChildren(from, to);
  }

  function morphChildren(from, to) {
    const keyed = new Map([...from.childNodes].filter(keyOf).map((node) => [keyOf(node), node]));
    let place = from.firstChild;
    for (const wanted of [...to.childNodes]) {
      const key = keyOf(wanted);
      const same = key ? keyed.get(key) : place;
      const usable = same && same.nodeName === wanted.nodeName && keyOf(same) === key;
      if (usable) {
        keyed.delete(key);
        if (same === place) place = place.nextSibling;
        else from.insertBefore(same, place);
        if (!same.isEqualNode(wanted)) morph(same, wanted);
      } else {
        const fresh = document.importNode(wanted, true);
        if (key && fresh.nodeName === "TR") fresh.classList.add("fresh");
        from.insertBefore(fresh, place);
      }
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  }

  let refreshing = false;
  let again = false;

  async function refresh() {
    if (refreshing) {
      again = true;
      return;
    }
    refreshing = true;
    try {
      const response = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (response.ok) {
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        for (const part of document.querySelectorAll("[data-live]")) {
          const wanted = page.getElementById(part.id);
          if (wanted) morph(part, wanted);
        }
      }
    } catch {
      // The stream tells when the sandbox is back.
    } finally {
      refreshing = false;
    }
    if (again) {
      again = false;
      refresh();
    }
  }

  // ---------------------------------------------------------------- the stream

  const state = document.getElementById("live-state");

  function showState(name, text) {
    state.dataset.state = name;
    state.querySelector("[data-text]").textContent = text;
  }

  document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

  const stream = new EventSource("/dashboard/live");
  stream.addEventListener("open", () => showState("on", "Live"));
  stream.addEventListener("error", () => showState("off", "Not connected"));
  stream.addEventListener("message", refresh);

  // ---------------------------------------------------------------- buttons

  const outcome = document.getElementById("outcome");

  function tell(text, failed) {
    outcome.hidden = false;
    outcome.className = failed ? "outcome failed" : "outcome";
    outcome.textContent = text;
  }

  /** "12.30" -> 1230, without the rounding of floating point. */
  function minorUnits(text, decimals) {
    const match = /^(\d+)(?:[.,](\d*))?$/.exec(text.trim());
    const fraction = match?.[2] ?? "";
    if (!match || fraction.length > decimals) return null;
    return Number(match[1] + fraction.padEnd(decimals, "0"));
  }

  function read(input) {
    if (input.value.trim() === "") return undefined;
    if (input.dataset.kind === "number") return Number(input.value);
    if (input.dataset.kind === "amount") return minorUnits(input.value, Number(input.dataset.decimals));
    return input.value;
  }

  async function act(form) {
    const body = JSON.parse(form.dataset.fixed ?? "{}");
    for (const input of form.querySelectorAll("[name]")) {
      const value = read(input);
      if (value === null) {
        tell(`${input.value} is not an amount.`, true);
        input.focus();
        return;
      }
      if (value !== undefined) body[input.name] = value;
    }
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      const response = await fetch(form.dataset.path, {
        method: form.dataset.method ?? "POST",
        headers: { "Content-Type": "application/json" },
        body: Object.keys(body).length ? JSON.stringify(body) : undefined,
      });
      const reply = await response.json();
      if (response.ok) {
        form.reset();
        tell(`${form.dataset.label}: done.`, false);
      } else tell(`${form.dataset.label}: ${reply.error.message}`, true);
    } catch {
      tell(`${form.dataset.label}: the sandbox does not answer.`, true);
    } finally {
      button.disabled = false;
      if (document.activeElement === document.body) button.focus();
    }
    refresh();
  }

  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form.action")) return;
    event.preventDefault();
    act(event.target);
  });
})();
