"use strict";
// The page: one event stream in, one picture out. `rack` is what the daemon last told; `paint` makes the picture agree with it.
// Text enters the page as text only, so nothing that a phone or a hub says of itself can become markup.

let rack = null;
let only = null; // the state to which the phones are narrowed
let lostAt = null;
let skew = null; // the daemon's clock minus this one's; a snapshot is never from its future, so the largest seen is the best

const $ = (id) => document.getElementById(id);

/** An element with classes, attributes and children; a null child is left out. */
function el(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// ---- What states mean -----------------------------------------------------------------------------------------------

const TONES = {
  ready: ["good", "●"], registered: ["good", "●"], live: ["good", "●"], connected: ["good", "●"], done: ["good", "✓"], finished: ["good", "✓"],
  detected: ["busy", "◔"], claiming: ["busy", "◔"], online: ["busy", "◑"], provisioning: ["busy", "◕"], authorising: ["busy", "?"],
  connecting: ["busy", "◔"], installing: ["busy", "◑"], parked: ["quiet", "◌"], skipped: ["quiet", "–"], gathering: ["busy", "◔"], fetching: ["busy", "◔"], waiting_approval: ["busy", "?"], running: ["busy", "◑"],
  recovering: ["bad", "▲"], quarantined: ["bad", "■"], stale: ["bad", "▲"], away: ["bad", "▲"], unacknowledged: ["bad", "▲"], needs_identity: ["bad", "?"], failed: ["bad", "✕"], needs_hand: ["bad", "!"],
  paused: ["bad", "▲"], aborted: ["bad", "✕"], rolling_back: ["busy", "↶"], rolled_back: ["quiet", "↩"],
};
const tone = (state) => (TONES[state] ?? ["quiet", "○"])[0];
const sign = (state) => (TONES[state] ?? ["quiet", "○"])[1];
const spoken = (state) => state.replaceAll("_", " ");

/** A state as a sign and a word, in its colour. */
function word(state, text = spoken(state), title = null) {
  return el("span", { class: "word", "data-tone": tone(state), "data-sign": sign(state), title }, text);
}

/** A line attempt that waits is trouble; a phone that waits for its wave is not. */
function lineWord(line) {
  const element = word(line.state, spoken(line.state), line.why);
  if (line.state !== "waiting") return element;
  Object.assign(element.dataset, { tone: "bad", sign: "▲" });
  return line.deadline === null ? element : el("span", { title: line.why }, element, " ", until(line.deadline));
}

// ---- Numbers for people ---------------------------------------------------------------------------------------------

const now = () => Date.now() + (skew ?? 0);

function span(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** An age that goes on growing: `tick` renews each. */
function age(at, after = "") {
  const element = el("time", { "data-at": at, "data-after": after, title: new Date(at).toLocaleString() });
  renew(element);
  return element;
}

/** How long a wait takes yet; `tick` renews it. */
function until(deadline) {
  const element = el("time", { "data-until": deadline.at, title: deadline.why });
  renew(element);
  return element;
}

const renew = (element) => {
  const { at, until: end, after } = element.dataset;
  element.textContent = end === undefined ? span(now() - Number(at)) + after : span(Number(end) - now() + 999);
};
const gib = (bytes) => (bytes / 2 ** 30).toFixed(1);
const percent = (part, whole) => (whole > 0 ? Math.round((100 * part) / whole) : 0);

/** A bar; its number stands beside it, so it is silent for screen readers. */
function track(share, toneName) {
  const fill = el("i");
  fill.style.width = `${Math.max(0, Math.min(100, share))}%`;
  return el("div", { class: "track", "aria-hidden": "true", "data-tone": toneName }, fill);
}

const pair = (key, ...value) => [el("dt", null, key), el("dd", null, ...value)];

// ---- The parts of the picture ---------------------------------------------------------------------------------------

function paintHeader() {
  const { daemon, host, mqtt } = rack;
  $("rack").textContent = daemon.rack || "farmhand";
  document.title = `${daemon.rack || "farmhand"} · ${rack.phones.filter((phone) => phone.state === "ready").length}/${rack.phones.length} ready`;
  const cells = [];
  const add = (key, ...value) => cells.push(el("div", null, ...pair(key, ...value)));
  if (host) {
    if (host.cpu_percent !== null) add("CPU", `${Math.round(host.cpu_percent)} %`);
    add("Memory", `${percent(host.memory_used_bytes, host.memory_total_bytes)} % of ${gib(host.memory_total_bytes)} GiB`);
    if (host.disk_free_bytes !== null) add("Disk free", `${gib(host.disk_free_bytes)} GiB`);
    if (host.temperature_celsius !== null) add("Temperature", `${host.temperature_celsius.toFixed(1)} °C`);
  }
  const lines = rack.phones.map((phone) => phone.line.state);
  const registered = lines.filter((state) => state === "registered").length;
  const wanted = lines.filter((state) => state !== "closed").length;
  const centre = wanted === 0 ? word("closed", "no line") : word(registered === wanted ? "registered" : "away", `${registered} of ${wanted} lines`);
  add("Centre", centre);
  const troubled = mqtt.state === "away" || mqtt.state === "unacknowledged";
  add("MQTT", word(mqtt.state, spoken(mqtt.state), mqtt.why), ...(troubled ? [" ", age(mqtt.since)] : []));
  $("health").replaceChildren(...cells);
  $("version").replaceChildren(`farmhand ${daemon.version}, up `, age(daemon.started));
}

function paintAlerts() {
  $("alerts").hidden = rack.alerts.length === 0;
  $("alerts").replaceChildren(...rack.alerts.map((alert) => el("div", { class: "alert card", "data-tone": "bad" },
    el("p", null, word("quarantined", [alert.slot ?? alert.phone, alert.what].filter(Boolean).join(": ")), " ", age(alert.at, " ago")),
    el("p", { class: "help" }, alert.help))));
}

const STATES = ["quarantined", "recovering", "authorising", "detected", "claiming", "online", "provisioning", "ready", "detached", "absent"];

function paintStates() {
  const count = (state) => rack.phones.filter((phone) => phone.state === state).length;
  if (only && count(only) === 0) only = null;
  const buttons = STATES.filter(count).map((state) => {
    const button = el("button", { type: "button", "aria-pressed": String(only === state), "data-tone": tone(state) }, word(state), el("b", null, count(state)));
    button.addEventListener("click", () => {
      only = only === state ? null : state;
      paintStates();
      narrow();
    });
    return button;
  });
  const focused = [...$("states").children].indexOf(document.activeElement);
  $("states").replaceChildren(...buttons);
  buttons[focused]?.focus();
  $("phones-count").textContent = rack.phones.length || "";
  $("empty").hidden = rack.phones.length > 0;
}

function narrow() {
  for (const cell of $("phones").children) cell.hidden = only !== null && cell.dataset.state !== only;
}

const cells = new Map();

function paintPhones() {
  const fed = new Map(rack.hubs.filter((hub) => hub.state === "live").flatMap((hub) => hub.ports.map((port) => [`${hub.name} ${port.port}`, port])));
  const wanted = new Set(rack.phones.map((phone) => phone.id));
  for (const [id, cell] of cells) {
    if (!wanted.has(id)) {
      cell.remove();
      cells.delete(id);
    }
  }
  rack.phones.forEach((phone, place) => {
    const port = phone.power && fed.get(`${phone.power.hub} ${phone.power.port}`);
    const cell = cells.get(phone.id) ?? el("article", { class: "phone card", "data-phone": phone.id });
    const known = JSON.stringify([phone, port]);
    if (cell.known !== known) {
      tellOf(cell, phone);
      Object.assign(cell.dataset, { state: phone.state, line: phone.line.state, tone: tone(phone.state), slot: phone.slot ?? "" });
      cell.replaceChildren(...phoneParts(phone, port));
      cell.known = known;
    }
    cells.set(phone.id, cell);
    if ($("phones").children[place] !== cell) $("phones").insertBefore(cell, $("phones").children[place] ?? null);
  });
  narrow();
}

function phoneParts(phone, port) {
  const model = [phone.brand, phone.model].filter(Boolean).join(" ");
  const place = phone.endpoint ?? "not here";
  const name = phone.slot ?? phone.id;
  const facts = [];
  const absent = phone.state === "absent";
  for (const lease of phone.leases) facts.push(...pair("Held", el("span", { title: lease.reason }, `${lease.who}, ${lease.tool}`)));
  const { device } = phone;
  facts.push(...pair("Agent", phone.agent ? el("span", { title: `${phone.agent.package}, ${phone.agent.version_code}` }, phone.agent.version_name) : "none"));
  facts.push(...pair("Line", lineWord(phone.line)));
  if (phone.last_alive !== null) facts.push(...pair("Answered", age(phone.last_alive, " ago")));
  facts.push(...pair("Power", port ? powerWord(port, phone.power) : phone.power ? `${phone.power.hub} port ${phone.power.port}, no reading` : "not on a hub"));
  if (device.storage !== null && !absent) {
    const { free_bytes: free, total_bytes: total } = device.storage;
    facts.push(...pair("Room", el("span", { title: `of ${gib(total)} GiB` }, `${gib(free)} GiB`)));
  }
  if (phone.upkeep?.settings.length) facts.push(...pair("Settings", settingsWord(phone.upkeep.settings)));
  return [
    el("div", { class: "head" }, el("h3", { title: `${phone.id}, ${place}` }, name), el("span", { class: "model", title: modelTitle(phone, model) }, model || place)),
    el("div", { class: "state" }, word(phone.state), age(phone.since)),
    el("p", { class: "why", title: phone.why }, phone.why),
    phone.battery && !absent ? battery(phone.battery) : el("div", { class: "battery" }, track(0, "quiet"), el("span", null, "–")),
    el("dl", null, ...facts),
  ];
}

/** How a phone stands to what its owner wants to be so on it. */
function settingsWord(settings) {
  const otherwise = settings.filter(({ state }) => state === "refused" || state === "unread");
  const hand = settings.filter(({ state }) => state === "hand");
  const words = [otherwise.length && `${otherwise.length} otherwise`, hand.length && `${hand.length} for a hand`].filter(Boolean);
  const title = [...otherwise, ...hand].map(({ name, why }) => `${name}: ${why}`).join("\n") || null;
  return el("span", { title }, words.join(", ") || "as wanted");
}

/** What there is no room for in a cell. */
function modelTitle({ id, sdk, device }, model) {
  const size = device.screen_size && `${device.screen_size.width} × ${device.screen_size.height}`;
  return [model, device.android && `Android ${device.android}`, sdk !== null && `SDK ${sdk}`, device.build, size, id].filter(Boolean).join(", ");
}

function powerWord(port, power) {
  const mode = port.mode === "sync" ? "" : `, ${port.mode}`;
  return el("span", { title: `hub ${power.hub} port ${power.port}, ${port.mode}` }, `${port.current_milliamps} mA${mode}`);
}

function battery({ level_percent: level, temperature_celsius: celsius, current_milliamps: current, health, charging }) {
  const hot = celsius !== null && celsius >= 45;
  const ill = health !== null && health !== "good";
  const low = level < 20;
  const notes = [`${level} %`, charging ? "charging" : null, low && !charging ? "low" : null, hot ? `${celsius.toFixed(0)} °C` : null, ill ? spoken(health) : null];
  const told = [celsius !== null && `${celsius.toFixed(1)} °C`, current !== null && `${current} mA`, health !== null && spoken(health)];
  const title = told.filter(Boolean).join(", ") || null;
  return el("div", { class: "battery", title }, track(level, low || hot || ill ? "bad" : "good"), el("span", null, notes.filter(Boolean).join(" ")));
}

/** Says a phone's new state to those who listen, and lights its cell. */
function tellOf(cell, phone) {
  if (cell.dataset.state === undefined || cell.dataset.state === phone.state) return;
  cell.classList.remove("changed");
  void cell.offsetWidth; // so that the same animation begins again
  cell.classList.add("changed");
  const news = el("p", null, `${phone.slot ?? phone.id} is ${spoken(phone.state)}: ${phone.why}`);
  $("news").append(news);
  while ($("news").children.length > 5) $("news").firstChild.remove();
}

function paintRollouts() {
  const slots = new Map(rack.phones.map((phone) => [phone.id, phone.slot ?? phone.id]));
  const name = (id) => slots.get(id) ?? id;
  $("rollouts-section").hidden = rack.rollouts.length === 0;
  $("rollouts").replaceChildren(...rack.rollouts.map((rollout) => {
    const phones = rollout.waves.flatMap((wave) => wave.phones);
    const done = phones.filter((phone) => phone.state === "done").length;
    const failed = phones.filter((phone) => phone.state === "failed" || phone.state === "needs_hand");
    const waves = rollout.waves.map((wave, i) => el("div", { class: "wave" }, `wave ${i + 1}`,
      ...wave.phones.map((phone) => word(phone.state, name(phone.phone), [spoken(phone.state), phone.why].filter(Boolean).join(": ")))));
    const over = ["finished", "aborted", "rolled_back"].includes(rollout.state);
    return el("article", { class: "rollout card", "data-rollout": rollout.id, "data-state": rollout.state, "data-tone": tone(rollout.state) },
      el("div", { class: "head" }, el("h3", null, rollout.id), el("span", null, `${rollout.package} ${rollout.version_name}`), word(rollout.state)),
      el("p", { class: "why" }, rollout.why),
      el("div", { class: "progress" }, track(percent(done, phones.length), over ? "good" : tone(rollout.state)), el("span", null, `${done} of ${phones.length}`)),
      over ? null : el("div", { class: "waves" }, ...waves),
      failed.length ? el("ul", { class: "failures" }, ...failed.map((phone) => el("li", null, `${name(phone.phone)}: ${phone.why ?? "failed"}`))) : null);
  }));
}

/** What a port of a hub feeds at most, for the length of its bar. */
const PORT_MILLIAMPS = 2400;

function paintHubs() {
  $("hubs-section").hidden = rack.hubs.length === 0;
  $("hubs").replaceChildren(...rack.hubs.map((hub) => {
    const live = hub.state === "live";
    const fed = hub.ports.reduce((sum, port) => sum + port.current_milliamps, 0);
    const facts = [live ? `${(fed / 1000).toFixed(2)} A` : null, live && hub.supply_volts !== null ? `${hub.supply_volts.toFixed(2)} V` : null,
      live && hub.temperature_celsius !== null ? `${hub.temperature_celsius.toFixed(1)} °C` : null].filter(Boolean).join(" · ");
    const read = hub.last_reading === null ? "never read" : age(hub.last_reading, " ago");
    const ports = hub.ports.map((port) => el("div", { class: "port", "data-port": port.port, "data-mode": port.mode, title: port.attached ? "something is plugged in" : "nothing is plugged in" },
      el("div", null, el("span", null, port.port), el("span", null, port.slot ?? "")),
      el("b", null, port.mode === "off" ? "off" : `${port.current_milliamps} mA`),
      track(percent(port.current_milliamps, PORT_MILLIAMPS), "good")));
    return el("article", { class: "hub card", "data-hub": hub.name, "data-state": hub.state },
      el("div", { class: "head" }, el("h3", null, hub.name), word(hub.state), el("span", { class: "facts", title: hub.identity }, facts, facts ? " · " : "", read)),
      live ? null : el("p", { class: "why" }, hub.why),
      el("div", { class: "ports" }, ...ports));
  }));
}

function paintOff() {
  $("off-section").hidden = rack.switched_off.length === 0;
  $("off").replaceChildren(...rack.switched_off.flatMap((off) => pair(off.what, el("code", null, off.how))));
}

function paintTroubles() {
  $("troubles-section").hidden = rack.troubles.length === 0;
  $("troubles").replaceChildren(...rack.troubles.flatMap((trouble) => pair(trouble.part, el("span", null, trouble.why, " · ", age(trouble.since)))));
}

const PARTS = [
  [paintHeader, () => [rack.daemon, rack.host, rack.mqtt, rack.phones.map((phone) => [phone.state, phone.line.state])]],
  [paintAlerts, () => rack.alerts],
  [paintStates, () => rack.phones.map((phone) => phone.state)],
  [paintPhones, () => [rack.phones, rack.hubs]],
  [paintRollouts, () => [rack.rollouts, rack.phones.map((phone) => phone.slot)]],
  [paintHubs, () => rack.hubs],
  [paintOff, () => rack.switched_off],
  [paintTroubles, () => rack.troubles],
].map(([paintPart, seen]) => ({ paintPart, seen, painted: null }));

/** Paints each part whose content is not what was painted last. */
function paint() {
  for (const part of PARTS) {
    const seen = JSON.stringify(part.seen());
    if (seen === part.painted) continue;
    part.painted = seen;
    part.paintPart();
  }
}

// ---- The stream -----------------------------------------------------------------------------------------------------

function told(at) {
  const ahead = at - Date.now();
  skew = skew === null ? ahead : Math.max(skew, ahead);
  lostAt = null;
  heard = Date.now();
  document.body.dataset.stream = "open";
  $("live").textContent = "live";
  $("lost").hidden = true;
  paint();
}

/** Makes the newer rack from the one that is known, as the daemon's `web::change` says. */
function apply(change) {
  for (const phone of change.phones ?? []) {
    const place = rack.phones.findIndex((known) => known.id === phone.id);
    if (place < 0) rack.phones.push(phone);
    else rack.phones[place] = phone;
  }
  if (change.order) {
    const known = new Map(rack.phones.map((phone) => [phone.id, phone]));
    rack.phones = change.order.map((id) => known.get(id)).filter(Boolean);
  }
  for (const part of ["daemon", "host", "hubs", "rollouts", "mqtt", "alerts", "incidents", "switched_off", "troubles"]) {
    if (change[part] !== undefined) rack[part] = change[part];
  }
}

function lose() {
  lostAt ??= Date.now();
  document.body.dataset.stream = "lost";
  $("live").textContent = "not connected";
  $("lost").textContent = `Not connected since ${new Date(lostAt).toLocaleTimeString()}. What you see is from before; trying again.`;
  $("lost").hidden = false;
}

let stream = null;
let heard = Date.now();

function connect() {
  stream?.close();
  stream = new EventSource("/api/events");
  stream.addEventListener("snapshot", (event) => {
    rack = JSON.parse(event.data);
    told(rack.at);
  });
  stream.addEventListener("change", (event) => {
    const change = JSON.parse(event.data);
    apply(change);
    told(change.at);
  });
  stream.addEventListener("error", ({ target }) => {
    lose();
    // A refusal ends an EventSource for good; a lost one tries again by itself.
    if (target.readyState === EventSource.CLOSED && target === stream) setTimeout(connect, 2000);
  });
}

/** A quiet rack and a network that fell silent look the same from here: after half a minute, ask. */
async function listen() {
  if (Date.now() - heard < 30000 || document.body.dataset.stream !== "open") return;
  try {
    await fetch("/healthz", { signal: AbortSignal.timeout(5000) });
    heard = Date.now();
  } catch {
    lose();
    connect();
  }
}

function tick() {
  if (document.body.dataset.stream === "open") for (const element of document.querySelectorAll("time[data-at], time[data-until]")) renew(element);
}

setInterval(tick, 1000);
setInterval(listen, 10000);
connect();
