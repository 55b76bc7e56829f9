const MANY = 60
// The slim shard bar. Data: {label, shards: [{name, state, width, lines}], looks: [{state, label, light, dark, count}]}.
// Hover, focus or tap a segment to read why it was searched or not.
export default function (component) {
  const { data, parentElement } = component
  const root = parentElement.querySelector(".root")
  if (!root || !data) return
  paint(root, data.looks)
  const tip = tooltip()
  const bar = element("div", "bar")
  bar.setAttribute("role", "list")
  bar.setAttribute("aria-label", data.label)

  const many = data.shards.length > MANY
  bar.classList.toggle("many", many)
  const show = segment => {
    fill(tip, segment.shard.lines)
    const box = bar.getBoundingClientRect()
    const mine = segment.getBoundingClientRect()
    const middle = mine.left - box.left + mine.width / 2
    tip.style.top = `${mine.bottom - box.top + 6}px`
    tip.style.left = `${Math.min(Math.max(middle - tip.offsetWidth / 2, 0), box.width - tip.offsetWidth)}px`
  }
  const hide = () => tip.classList.remove("shown")

  const segments = data.shards.map((shard, at) => {
    const segment = element("div", `segment ${shard.state}`)
    segment.shard = shard
    if (!many) segment.style.flexGrow = shard.width
    segment.setAttribute("role", "listitem")
    segment.setAttribute("aria-label", shard.lines.join(". "))
    segment.tabIndex = at ? -1 : 0
    segment.onmouseenter = segment.onfocus = () => show(segment)
    segment.onmouseleave = segment.onblur = hide
    return segment
  })
  bar.onkeydown = event => {
    const row = many ? Math.max(1, segments.filter(one => one.offsetTop === segments[0].offsetTop).length) : 0
    const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row }[event.key]
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

  const foot = element("div", "foot")
  foot.append(element("span", "sentence", data.sentence), legendOf(data.looks))
  root.replaceChildren(bar, tip, foot)
}
