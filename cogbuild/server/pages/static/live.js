// Keeps a page that is open up to date. Everything can be read, and every button works, without it.
"use strict";

const text = (event) => {
  const said = JSON.parse(event.data);
  return said.text !== undefined ? said.text : line(said);
};

// A job's message, as the page writes it.
const line = (message) => {
  if (message.type === "model" || !message.data) return "";
  return (message.pair && message.type === "log_line" ? `${message.pair} | ` : "") + message.data + "\n";
};

// Control characters are shown and never acted on; the server has escaped them, each as a backslash and its number.
const append = (log, piece) => {
  const parts = piece.split(/(\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\r)/);
  const down = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  parts.forEach((part, number) => {
    if (!part) return;
    if (number % 2) {
      const mark = document.createElement("span");
      mark.className = "ctl";
      mark.textContent = part;
      log.append(mark);
    } else log.append(part);
  });
  while (log.childNodes.length > 20000) log.firstChild.remove();
  if (down) log.scrollTop = log.scrollHeight;
};

let following = null;
let source = null;
const follow = () => {
  const log = document.querySelector("[data-follow]");
  if (!log || following === log.dataset.follow) return;
  following = log.dataset.follow;
  const after = Number(log.dataset.after || 0);
  source?.close();
  const events = source = new EventSource(following);
  log.scrollTop = log.scrollHeight;
  events.onmessage = (event) => {
    if (after && Number(event.lastEventId) <= after) return;
    append(log, text(event));
  };
  const over = () => { events.close(); refresh(); };
  events.addEventListener("end", over);
  events.onerror = () => { if (events.readyState === EventSource.CLOSED) over(); };
};

let timer = 0;
const later = () => {
  clearTimeout(timer);
  const seconds = Number(document.getElementById("refresh")?.dataset.refresh || 0);
  if (seconds) timer = setTimeout(refresh, seconds * 1000);
};

// Takes over what moved from the page as it is now. What has the focus, or is open, stays as it is.
const refresh = async () => {
  clearTimeout(timer);
  if (document.hidden) return later();
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "error" });
    if (!answer.ok) return later();
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.querySelectorAll("[data-live]").forEach((old) => {
      const now = page.getElementById(old.id);
      if (now && !old.contains(document.activeElement) && !old.isEqualNode(now)) old.replaceWith(document.importNode(now, true));
    });
    const log = document.getElementById("log");
    const now = page.getElementById("log");
    if (now && !now.dataset.follow && source) {
      // What was missed, and no longer announced; the job's stream does not say that it has ended.
      source.close();
      source = null;
      if (log) log.setAttribute("aria-live", "off");
    }
    if (now && now.dataset.follow && now.dataset.follow.split("?")[0] !== (following || "").split("?")[0]) {
      const section = now.closest("section");
      const place = log && log.closest("section");
      if (place) place.replaceWith(section);
      else document.getElementById("attempts-section")?.after(section);
      follow();
    } else if (now && !log) document.getElementById("attempts-section")?.after(now.closest("section"));
  } catch { /* the server is away: asked again later */ }
  later();
};

document.addEventListener("visibilitychange", () => { if (!document.hidden && timer) refresh(); });
document.querySelectorAll("form[method=post]").forEach((form) => form.addEventListener("submit", (event) => {
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "1";
}));
follow();
later();
