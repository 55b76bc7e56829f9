// The slim shard bar. Data: {label, shards: [{name, state, width, lines}], looks: [{state, label, light, dark, count}]}.
// Hover, focus or tap a segment to read why it was searched or not.
function element(tag, className, text) {
  const made = document.createElement(tag)
  made.className = className
  if (text) made.textContent = text
  return made
}

function isDark(root) {
  const probe = getComputedStyle(root).getPropertyValue("--st-background-color").trim()
  const canvas = document.createElement("canvas").getContext("2d")
  canvas.fillStyle = probe || "#fff"
  const hex = canvas.fillStyle
  if (!hex.startsWith("#")) return false
  const [r, g, b] = [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16))
  return 0.299 * r + 0.587 * g + 0.114 * b < 128
}

export default function (component) {
  const { data, parentElement } = component
  const root = parentElement.querySelector(".root")
  if (!root || !data) return
  const dark = isDark(root)
  for (const look of data.looks) root.style.setProperty(`--${look.state}`, dark ? look.dark : look.light)

  const tip = element("div", "tip")
  tip.setAttribute("role", "tooltip")
  const bar = element("div", "bar")
  bar.setAttribute("role", "list")
  bar.setAttribute("aria-label", data.label)

  const show = segment => {
    tip.replaceChildren(...segment.shard.lines.map((line, at) => element("div", at ? "line" : "head", line)))
    tip.classList.add("shown")
    const box = bar.getBoundingClientRect()
    const mine = segment.getBoundingClientRect()
    const middle = mine.left - box.left + mine.width / 2
    tip.style.left = `${Math.min(Math.max(middle - tip.offsetWidth / 2, 0), box.width - tip.offsetWidth)}px`
  }
  const hide = () => tip.classList.remove("shown")

  const segments = data.shards.map((shard, at) => {
    const segment = element("div", `segment ${shard.state}`)
    segment.shard = shard
    segment.style.flexGrow = shard.width
    segment.setAttribute("role", "listitem")
    segment.setAttribute("aria-label", shard.lines.join(". "))
    segment.tabIndex = at ? -1 : 0
    segment.onmouseenter = segment.onfocus = () => show(segment)
    segment.onmouseleave = segment.onblur = hide
    return segment
  })
  bar.onkeydown = event => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
    const here = segments.indexOf(event.target)
    const next = move && segments[here + move]
    if (event.key === "Escape") hide()
    if (!next) return
    event.preventDefault()
    segments[here].tabIndex = -1
    next.tabIndex = 0
    next.focus()
  }
  bar.append(...segments)

  const legend = element("div", "legend")
  for (const look of data.looks) {
    if (!look.count) continue
    const entry = element("span", "entry")
    entry.append(element("span", `swatch ${look.state}`), document.createTextNode(`${look.label} ${look.count}`))
    legend.append(entry)
  }
  const foot = element("div", "foot")
  foot.append(element("span", "sentence", data.sentence), legend)
  root.replaceChildren(bar, tip, foot)
}
