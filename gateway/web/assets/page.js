// The page of one gw node. It shows what /events says, and sends nothing. What comes from there is put into the document as text.
"use strict";

const $ = id => document.getElementById(id);
let now = null, wrong = [], past = null, flows = null, heard = 0;
let order = {key: "bytes", down: true};
let firstDrops = null;

// make builds an element, of SVG when its name says so; children are elements or text.
function make(name, attrs, ...children) {
  const svg = name.startsWith("svg:");
  const e = svg ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4)) : document.createElement(name);
  for (const [k, v] of Object.entries(attrs || {})) if (v !== undefined && v !== null) e.setAttribute(k, v);
  e.append(...children.filter(c => c !== null && c !== undefined));
  return e;
}

function short(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let i = 0;
  while (n >= 1000 && i < units.length - 1) { n /= 1024; i++; }
  return (i && n < 10 ? n.toFixed(1) : Math.round(n)) + " " + units[i];
}
function delay(s) { return s >= 1 ? s.toFixed(2) + " s" : s >= 1e-3 ? (s * 1e3).toFixed(1) + " ms" : Math.round(s * 1e6) + " µs"; }
function percent(r) { return +(r * 100).toFixed(2) + " %"; }
function span(s) {
  if (s < 1) return "0 s";
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) if (s >= size) return Math.floor(s / size) + " " + unit;
}
function bits(r) { let i = 0; const u = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]; while (r >= 1000 && i < 3) { r /= 1000; i++; } return (r < 10 && i ? r.toFixed(1) : Math.round(r)) + " " + u[i]; }
const carries = l => l.state === "up" || l.state === "silent";
const lossOf = l => Math.max(l.loss_out_ratio || 0, l.loss_in_ratio || 0);
function grade(l) { return !carries(l) ? "bad" : lossOf(l) >= .01 || l.state === "silent" ? "warn" : "good"; }

function showHead(s) {
  document.title = `${s.node} – gw`;
  $("node").textContent = s.node;
  $("site").textContent = "site " + s.site;
  const worst = wrong.some(c => c.level === "failure") ? "bad" : wrong.length ? "warn" : "good";
  const moving = s.ha && (s.ha.handover || s.ha.role === "suspended" || s.ha.role === "waiting" || s.ha.carriers.some(c => !c.node));
  setText($("health"), moving ? "failing over" : {bad: "needs attention", warn: "degraded", good: "healthy"}[worst]);
  $("health").className = "badge " + worst;
  $("problems").hidden = !wrong.length;
  $("problems").className = worst;
  // What gw doctor finds, the worst first.
  $("problem-list").replaceChildren(...wrong.map(c => {
    const bad = c.level === "failure";
    return make("li", {}, make("b", {class: bad ? "bad" : "warn", "aria-hidden": "true"}, bad ? "✕" : "!"), `${c.area} ${c.name}: ${c.what}. `, make("span", {class: "dim"}, c.do));
  }));
  const figures = [
    ["Flows", s.flows.tcp + s.flows.udp + s.flows.icmp + s.flows.other], ["Relayed", s.relay.relayed],
    ["Denied", s.flows.denied_total], ["Dropped packets", s.drops.reduce((n, d) => n + d.packets, 0)],
    ["Uptime", span(s.uptime_seconds)], ["Memory", s.memory.resident_bytes ? short(s.memory.resident_bytes) : short(s.memory.heap_bytes)],
  ];
  if (s.ha) figures.unshift(["Role", s.ha.role], ["Records", s.ha.records.held + (s.ha.records.in_sync ? " in sync" : "")]);
  $("figures").replaceChildren(...figures.map(([k, v]) => make("div", {}, make("dt", {}, k), make("dd", {}, String(v)))));
  $("about").textContent = `gw ${s.version} · ${s.tun.name}, ${s.tun.driver}, MTU ${s.tun.mtu_bytes} · ${s.tun.addresses.join(", ")} · ${s.config_files.join(", ")}`;
}

// setText leaves equal text alone, so that a screen reader isn't told the same each second.
function setText(e, text) { if (e.textContent !== text) e.textContent = text; }

function showTopology(s) {
  const width = Math.max(280, $("topology").clientWidth), narrow = width < 480;
  const boxW = narrow ? 108 : 180, nodeH = 46, pad = 10, head = 24;
  const own = [{name: s.node, self: true, role: s.ha ? s.ha.role : "active"}];
  if (s.ha) own.push({name: s.ha.sibling.node, role: s.ha.sibling.state === "up" ? s.ha.sibling.role : s.ha.sibling.state});
  own.sort((a, b) => a.name < b.name ? -1 : 1);
  const sites = new Map();
  for (const l of s.links) if (l.site !== s.site) sites.set(l.site, [...(sites.get(l.site) || []), l]);
  const active = new Map((s.ha ? s.ha.carriers : []).map(c => [c.site, c.node]));
  for (const [site, ls] of sites) if (!active.has(site) && ls.length === 1) active.set(site, ls[0].peer);
  const heightOf = n => head + n * (nodeH + pad) + 2;
  const right = [...sites.values()].reduce((h, ls) => h + heightOf(ls.length) + 14, -14);
  const height = Math.max(heightOf(own.length), right, 60);
  const svg = make("svg:svg", {viewBox: `0 0 ${width} ${height}`, height, role: "img"});
  const wires = make("svg:g"), boxes = make("svg:g"), plates = make("svg:g");
  svg.append(wires, boxes, plates);
  const words = [];
  const node = (x, y, name, role, isActive, self) => {
    boxes.append(make("svg:rect", {x: x + 6, y, width: boxW - 12, height: nodeH, rx: 6, class: "nodebox" + (isActive ? " active" : "")}),
      make("svg:text", {x: x + 14, y: y + 19, class: "strong"}, name),
      make("svg:text", {x: x + 14, y: y + 36, class: "small " + (isActive ? "good" : "dim")}, (isActive ? "● " : "○ ") + role + (self && !narrow ? ", this node" : "")));
    words.push(`${name} ${role}`);
  };
  const site = (x, y, name, n) => boxes.append(make("svg:rect", {x: x + .5, y: y + .5, width: boxW - 1, height: heightOf(n) - 1, rx: 8, class: "box"}),
    make("svg:text", {x: x + 10, y: y + 17, class: "dim"}, "site " + name));
  const y0 = (height - heightOf(own.length)) / 2;
  let from = 0;
  site(0, y0, s.site, own.length);
  own.forEach((o, i) => {
    const y = y0 + head + i * (nodeH + pad);
    node(0, y, o.name, o.role, o.role === "active", o.self);
    if (o.self) from = y + nodeH / 2;
    const sibling = i && s.links.find(l => l.site === s.site);
    if (sibling) wires.append(make("svg:path", {class: "wire " + grade(sibling), d: `M${boxW / 2} ${y - pad} V${y}`}));
    if (sibling) words.push(`link to ${sibling.peer} ${sibling.state}`);
  });
  let y = (height - right) / 2;
  const x = width - boxW;
  for (const [name, ls] of sites) {
    site(x, y, name, ls.length);
    ls.forEach((l, i) => {
      const ny = y + head + i * (nodeH + pad), isActive = active.get(name) === l.peer, g = grade(l), end = ny + nodeH / 2;
      node(x, ny, l.peer, isActive ? "active" : active.get(name) ? "standby" : "", isActive, false);
      wires.append(make("svg:path", {class: `wire ${g}${isActive ? "" : " idle"}`, d: `M${boxW - 6} ${from} C${width / 2} ${from} ${width / 2} ${end} ${x + 6} ${end}`}));
      const text = !carries(l) ? l.state : l.rtt_seconds ? delay(l.rtt_seconds) + (lossOf(l) ? narrow ? "" : `, loss ${percent(lossOf(l))}` : "") : l.state;
      const mx = width / 2 + (x - width / 2) * .45, my = from + (end - from) * .78, tw = text.length * 6.4 + 10;
      plates.append(make("svg:rect", {x: mx - tw / 2, y: my - 10, width: tw, height: 19, rx: 4, class: "plate"}),
        make("svg:text", {x: mx, y: my + 4, "text-anchor": "middle", class: g === "good" ? "" : g}, text));
      words.push(`link to ${l.peer} ${text}`);
    });
    y += heightOf(ls.length) + 14;
  }
  svg.setAttribute("aria-label", words.join("; "));
  $("topology").replaceChildren(svg);
}

// ceiling rounds the end of an axis up to a number that reads well.
function ceiling(v, least) {
  v = Math.max(v, least);
  const p = 10 ** Math.floor(Math.log10(v));
  return [1, 2, 5, 10].map(m => m * p).find(t => t >= v);
}

// plot draws series over the last hour; ups shades the steps in which the link carried nothing.
function plot(title, series, unit, least, ups, latest) {
  const w = Math.max(240, Math.min(410, (($("links").clientWidth || 380) - 28) / (innerWidth > 900 ? 3 : 1))), h = 96, left = 68, bottom = 18;
  const n = past.points, max = ceiling(Math.max(0, ...series.flat().filter(v => v !== null)), least);
  const px = i => left + (w - left - 4) * i / (n - 1), py = v => 6 + (h - bottom - 6) * (1 - v / max);
  const svg = make("svg:svg", {viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": `${title}, last hour: now ${latest}, scale to ${unit(max)}`});
  for (const v of [0, max / 2, max]) svg.append(make("svg:line", {x1: left, x2: w - 4, y1: py(v), y2: py(v), class: "gridline"}),
    make("svg:text", {x: left - 6, y: py(v) + 4, "text-anchor": "end", class: "dim small"}, v ? unit(v).replace(".0 ", " ") : "0"));
  for (const [i, text, anchor] of [[0, "−60 min", "start"], [n / 2, "−30", "middle"], [n - 1, "now", "end"]])
    svg.append(make("svg:text", {x: px(i), y: h - 3, "text-anchor": anchor, class: "dim small"}, text));
  for (let i = 0; i < n; i++) if (ups[i] === false) {
    let j = i; while (j + 1 < n && ups[j + 1] === false) j++;
    svg.append(make("svg:rect", {x: px(i) - 1, y: 6, width: Math.max(2, px(j) - px(i) + 2), height: h - bottom - 6, class: "down"}));
    i = j;
  }
  series.forEach((vs, k) => {
    let d = "", pen = false, lone = -1;
    vs.forEach((v, i) => {
      if (v === null) { pen = false; return; }
      if (!pen && (i + 1 >= n || vs[i + 1] === null)) lone = i;
      d += `${pen ? "L" : "M"}${px(i).toFixed(1)} ${py(v).toFixed(1)}`; pen = true;
    });
    svg.append(make("svg:path", {d, class: "curve" + (k ? " second" : "")}));
    if (lone >= 0) svg.append(make("svg:circle", {cx: px(lone), cy: py(vs[lone]), r: 2, class: "dot" + (k ? " second" : "")}));
  });
  const keys = series.length > 1 ? [make("span", {class: "key"}, "— out"), make("span", {class: "key second"}, "— in")] : [];
  return make("figure", {}, make("figcaption", {}, make("span", {}, title), ...keys, make("b", {}, latest)), svg);
}

function rates(ps, key) {
  return ps.map((p, i) => { const q = i && ps[i - 1]; return p && q && p[key] >= q[key] ? 8 * (p[key] - q[key]) / past.step_seconds : null; });
}
const lastOf = vs => { for (let i = vs.length - 2; i >= 0; i--) if (vs[i] !== null) return vs[i]; return null; };

function showLinks(s) {
  if (!past) return;
  $("links").replaceChildren(...s.links.map(l => {
    const ps = past.links[l.peer] || Array(past.points).fill(null), of = k => ps.map(p => p && p[k] !== undefined ? p[k] : null);
    const ups = of("up"), tx = rates(ps, "tx"), rx = rates(ps, "rx"), g = grade(l);
    const facts = [];
    if (l.endpoint) facts.push((l.initiator ? "dials " : "dialled from ") + l.endpoint);
    if (l.mtu_out_bytes) facts.push(`path MTU ${l.mtu_out_bytes} out, ${l.mtu_in_bytes || "?"} in`);
    if (l.last_handshake) facts.push("handshake " + span(Math.max(0, (Date.parse(s.time) - Date.parse(l.last_handshake)) / 1000)) + " ago");
    const rate = v => v === null ? "–" : bits(v);
    return make("div", {class: "link"}, make("div", {class: "top"}, make("h3", {}, l.peer),
      make("b", {class: g}, l.state), make("span", {class: "dim"}, facts.join(" · "))),
      make("div", {class: "plots"},
        plot("Round trip", [of("rtt")], delay, .001, ups, carries(l) && l.rtt_seconds ? delay(l.rtt_seconds) : "–"),
        plot("Loss", [of("out"), of("in")], percent, .01, ups, carries(l) && l.loss_out_ratio !== undefined ? `${percent(l.loss_out_ratio)} / ${percent(l.loss_in_ratio)}` : "–"),
        plot("Traffic", [tx, rx], bits, 10000, ups, `${rate(lastOf(tx))} / ${rate(lastOf(rx))}`)));
  }));
}

const phaseNames = {asked: "asked", detected: "decided", claimed: "claimed", acknowledged: "acknowledged", address: "address held", announced: "announced", total: "done"};
const moment = at => make("time", {datetime: at.toISOString(), title: at.toISOString()}, (Date.now() - at > 72e6 ? at.toLocaleDateString() + " " : "") + at.toLocaleTimeString([], {hour12: false}));
function showTimeline(s) {
  const list = past.events.toSorted((a, b) => Date.parse(b.at) - Date.parse(a.at));
  $("timeline").replaceChildren(...list.map(e => {
    const li = make("li", {class: e.kind + (e.bad ? " bad" : "")}, moment(new Date(e.at)), e.text);
    const p = e.failover && e.failover.phases_ms;
    if (p && p.total) {
      const steps = Object.keys(phaseNames).filter(k => p[k]).map(k => [phaseNames[k], p[k]]).sort((a, b) => a[1] - b[1]);
      const svg = make("svg:svg", {viewBox: "0 0 300 8", height: 8, preserveAspectRatio: "none", "aria-hidden": "true"});
      let x = 0;
      steps.forEach(([, v], i) => { const to = 300 * v / p.total; svg.append(make("svg:rect", {x, y: 0, width: Math.max(0, to - x), height: 8, class: "phase p" + i % 4})); x = Math.max(x, to); });
      li.append(make("div", {class: "phases"}, make("b", {}, `took ${+p.total.toFixed(1)} ms`), " · " + steps.map(([k, v]) => `${k} ${+v.toFixed(1)}`).join(" · ")), svg);
    }
    return li;
  }));
  $("timeline").append(make("li", {class: "dim started"}, moment(new Date(s.started)),
    `the process on ${s.node} started${list.length ? "" : ", and nothing has changed since"}; what was before stands in its log${s.audit ? " and in the audit log" : ""}`));
}

const address = (a, p) => p ? (a.includes(":") ? `[${a}]:${p}` : `${a}:${p}`) : a;
const columns = [
  ["proto", "Proto", c => c.proto, c => c.proto],
  ["source", "Source", c => address(c.source, c.source_port), null, "addr"],
  ["destination", "Destination", c => address(c.destination, c.destination_port), null, "addr"],
  ["mode", "How", c => c.mode + (c.why ? ": " + c.why : ""), null, "wide"],
  ["state", "State", c => c.state],
  ["rule", "Rule", c => `${c.rule} (${c.rule_pos})`, null, "wide"],
  ["bytes", "Bytes", c => short(c.bytes_out + c.bytes_in), c => c.bytes_out + c.bytes_in, "num"],
  ["out", "Out", c => short(c.bytes_out), c => c.bytes_out, "num"],
  ["in", "In", c => short(c.bytes_in), c => c.bytes_in, "num"],
  ["age", "Age", c => span(c.age_seconds), c => c.age_seconds, "num"],
  ["idle", "Idle", c => span(c.idle_seconds), c => c.idle_seconds, "num"],
];

function makeFlowHead() {
  $("flow-head").replaceChildren(...columns.map(([key, title, , , kind]) => {
    const b = make("button", {type: "button"}, title), th = make("th", {scope: "col", class: kind === "num" ? "num" : null, "data-key": key}, b);
    b.addEventListener("click", () => { order = {key, down: order.key === key ? !order.down : kind === "num"}; showFlows(); });
    return th;
  }));
  $("order").replaceChildren(...columns.map(([key, title]) => make("option", {value: key}, title)));
  $("order").value = order.key;
  $("order").addEventListener("change", e => { order = {key: e.target.value, down: columns.find(c => c[0] === e.target.value)[4] === "num"}; showFlows(); });
  $("filter").addEventListener("input", showFlows);
}

function showFlows() {
  for (const th of $("flow-head").children) {
    if (th.dataset.key === order.key) th.setAttribute("aria-sort", order.down ? "descending" : "ascending"); else th.removeAttribute("aria-sort");
  }
  $("order").value = order.key;
  if (!flows) return;
  const [, , text, value] = columns.find(c => c[0] === order.key), of = value || text, sign = order.down ? -1 : 1;
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = flows.conns.map(c => [c, columns.map(k => k[2](c))])
    .filter(([, cells]) => { const all = cells.join(" ").toLowerCase(); return words.every(w => all.includes(w)); })
    .sort(([a], [b]) => { const x = of(a), y = of(b); return sign * (x < y ? -1 : x > y ? 1 : 0); });
  $("flow-rows").replaceChildren(...rows.map(([, cells]) => make("tr", {}, ...cells.map((text, i) => make("td", {class: columns[i][4], "data-label": columns[i][1]}, text)))));
  if (!rows.length) $("flow-rows").append(make("tr", {}, make("td", {class: "dim wide", colspan: columns.length}, flows.total ? "No flow matches." : "No flows.")));
  const more = flows.total > flows.conns.length ? `; the ${flows.conns.length} largest of ${flows.total} are here, gw conns lists all` : "";
  setText($("flow-count"), `${rows.length} shown${more}`);
}

function showDrops(s) {
  const list = s.drops.filter(d => d.packets), most = Math.max(1, ...list.map(d => d.packets));
  firstDrops = firstDrops || new Map(s.drops.map(d => [d.reason, d.packets]));
  $("drops").replaceChildren(...list.flatMap(d => {
    const more = d.packets - (firstDrops.get(d.reason) || 0);
    return [make("span", {}, d.reason), make("span", {class: "num"}, d.packets.toLocaleString("en") + (more > 0 ? ` (+${more.toLocaleString("en")})` : "")),
      make("svg:svg", {class: "share", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true"}, make("svg:rect", {width: Math.max(.5, 100 * d.packets / most), height: 6}))];
  }));
  if (!list.length) $("drops").append(make("span", {class: "dim"}, "None."));
}

// showDenials shows who sent what it must not send, the most packets first.
function showDenials(s) {
  $("denials").replaceChildren(...s.denials.top.map(d => make("li", {}, make("b", {class: "num"}, d.packets.toLocaleString("en")),
    ` from ${d.source_site} to ` + (d.destination ? `${d.destination}, ${d.proto}` : "further destinations") + (d.latest_port ? `, latest port ${d.latest_port}` : "") + (d.reason ? `, ${d.reason}` : "") + " ",
    make("span", {class: "dim"}, span(Math.max(0, (Date.parse(s.time) - Date.parse(d.last)) / 1000)) + " ago"))));
  if (!s.denials.top.length) $("denials").append(make("li", {class: "dim"}, "None."));
}

// remember puts a snapshot into the plots as the gateway does: the worst of each step.
function remember(s) {
  const ms = past.step_seconds * 1000;
  while (Date.parse(s.time) >= Date.parse(past.end)) {
    past.end = new Date(Date.parse(past.end) + ms).toISOString();
    for (const ps of Object.values(past.links)) { ps.shift(); ps.push(null); }
  }
  for (const l of s.links) {
    const ps = past.links[l.peer] = past.links[l.peer] || Array(past.points).fill(null), i = past.points - 1;
    const p = ps[i] = ps[i] || {rtt: null, out: null, in: null, up: true};
    p.up = p.up && carries(l); p.tx = l.tx_bytes; p.rx = l.rx_bytes;
    if (l.rtt_seconds) { p.rtt = Math.max(p.rtt || 0, l.rtt_seconds); p.out = Math.max(p.out || 0, l.loss_out_ratio); p.in = Math.max(p.in || 0, l.loss_in_ratio); }
  }
}

function show() {
  if (!now || !past) return;
  showHead(now); showTopology(now); showLinks(now); showDrops(now); showDenials(now); showTimeline(now);
}

function listen() {
  const source = new EventSource("/events");
  source.addEventListener("history", e => { past = JSON.parse(e.data); show(); });
  source.addEventListener("now", e => {
    const d = JSON.parse(e.data);
    now = d.status; wrong = d.problems; heard = Date.now();
    if (d.events && past) past.events = d.events;
    if (past) remember(now);
    if (d.flows) { flows = d.flows; showFlows(); }
    show();
  });
  // The browser comes back by itself, except after a refusal.
  source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) setTimeout(listen, 5000); });
}

function showLive() {
  const age = (Date.now() - heard) / 1000, lost = !heard || age > 5;
  setText($("live"), !heard ? "waiting for the gateway" : lost ? `no answer from the gateway for ${span(age)}; what is shown is old` : "live");
  $("live").className = lost && heard ? "bad" : "dim";
}

makeFlowHead();
listen();
setInterval(showLive, 1000);
addEventListener("resize", show);
