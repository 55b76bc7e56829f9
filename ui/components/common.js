// What several components use; it stands before the text of each of them.
function element(tag, className, text) {
  const made = document.createElement(tag)
  made.className = className
  if (text) made.textContent = text
  return made
}

// Whether the page has the dark theme.
function isDark(root) {
  const probe = getComputedStyle(root).getPropertyValue("--st-background-color").trim()
  const canvas = document.createElement("canvas").getContext("2d")
  canvas.fillStyle = probe || "#fff"
  const hex = canvas.fillStyle
  if (!hex.startsWith("#")) return false
  const [r, g, b] = [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16))
  return 0.299 * r + 0.587 * g + 0.114 * b < 128
}

// Set a colour for each state of a shard, as the CSS variable `--state`. Looks: [{state, label, light, dark, count}].
function paint(root, looks) {
  const dark = isDark(root)
  for (const look of looks) root.style.setProperty(`--${look.state}`, dark ? look.dark : look.light)
}

// The states that occur, each with its colour and its count.
function legendOf(looks) {
  const legend = element("div", "legend")
  for (const look of looks) {
    if (!look.count) continue
    const entry = element("span", "entry")
    entry.append(element("span", `swatch ${look.state}`), document.createTextNode(`${look.label} ${look.count}`))
    legend.append(entry)
  }
  return legend
}

function tooltip() {
  const tip = element("div", "tip")
  tip.setAttribute("role", "tooltip")
  return tip
}

// Show lines in a tooltip; the first one is its head.
function fill(tip, lines) {
  tip.replaceChildren(...lines.map((line, at) => element("div", at ? "line" : "head", line)))
  tip.classList.add("shown")
}
