// Keeps an open page true: counts down every second, fetches itself every few seconds.
// Without this file every page works; it only has to be reloaded by hand.
"use strict";

const REFRESH_MS = 5000;
const skew_ms = Number(document.body.dataset.now) * 1000 - Date.now();

function words(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const left = Math.max(0, Math.round(seconds));
  const place = units.findIndex(([, length]) => left >= length);
  if (place < 0 || place === units.length - 1) return `${left} s`;
  const [[unit, length], [finer, finerLength]] = units.slice(place);
  const rest = Math.floor((left % length) / finerLength);
  return `${Math.floor(left / length)} ${unit}` + (rest ? ` ${String(rest).padStart(2, "0")} ${finer}` : "");
}

function countDown() {
  const now_s = (Date.now() + skew_ms) / 1000;
  for (const element of document.querySelectorAll("[data-due]")) {
    const left_s = Number(element.dataset.due) - now_s;
    element.textContent = left_s > 0 ? `in ${words(left_s)}` : "now";
  }
}

async function refresh() {
  if (document.hidden) return;
  const answer = await fetch(location.href, { cache: "no-store" }).catch(() => null);
  const note = document.getElementById("offline");
  note.hidden = Boolean(answer && answer.ok);
  if (!answer || !answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const element of document.querySelectorAll("[data-live]")) {
    const other = fresh.getElementById(element.id);
    // Whatever has the focus stays as it is: nobody's half-typed note goes away.
    if (!other || element.contains(document.activeElement)) continue;
    for (const fold of other.querySelectorAll("details[id]")) {
      fold.open = Boolean(document.getElementById(fold.id)?.open);
    }
    if (element.innerHTML !== other.innerHTML) element.innerHTML = other.innerHTML;
  }
  const version = document.getElementById("version");
  const other = fresh.getElementById("version");
  if (version && other) version.value = other.value;
  document.title = fresh.title;
  countDown();
}

setInterval(countDown, 1000);
setInterval(refresh, REFRESH_MS);
