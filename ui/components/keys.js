// Keyboard and small screens. Data: {hit: id of the open frame, shard: number of the open shard; each may be null}. Trigger
// `close`: Escape was pressed while one of them is open.
// The cursor is in the query box when a page opens; on a phone the open frame is scrolled to, and back to its picture when it closes.
let page = ""
let shown = null
let inside = null
const NARROW = 640

function waitFor(find, act, tries = 60) {
  const found = find()
  if (found) act(found)
  else if (tries) setTimeout(() => waitFor(find, act, tries - 1), 50)
}

function cardOf(id) {
  for (const host of document.querySelectorAll(".st-key-hits *")) {
    const card = host.shadowRoot?.querySelector(`.card[data-id="${CSS.escape(id)}"]`)
    if (card) return card
  }
  return null
}

function isBusy() {
  return document.fullscreenElement || document.querySelector("[data-testid=stPopoverBody], [role=dialog], [role=listbox]")
}

export default function (component) {
  const { data, setTriggerValue } = component
  if (!data) return
  const fine = matchMedia("(hover: hover) and (pointer: fine)").matches
  if (page !== location.pathname) {
    page = location.pathname
    shown = inside = null
    waitFor(
      () => document.querySelector(".st-key-q input"),
      input => {
        const nowhere = document.activeElement === document.body || document.activeElement?.closest("[data-testid=stTopNavLinkContainer], header")
        if (fine && nowhere) input.focus({ preventScroll: true })
      },
    )
  }
  if (data.hit !== shown) {
    const before = shown
    shown = data.hit
    if (shown && innerWidth <= NARROW) {
      waitFor(() => document.querySelector(".st-key-viewer"), pane => pane.scrollIntoView({ block: "start" }))
    } else if (shown && fine) {
      // The grid is drawn anew beside the frame: from its picture, arrows go on in the grid, and Tab leads to the frame.
      const id = shown
      waitFor(
        () => document.querySelector(".st-key-viewer") && cardOf(id)?.classList.contains("picked") && cardOf(id),
        card => {
          const elsewhere = document.activeElement?.matches("input, textarea")
          if (!elsewhere) card.focus({ preventScroll: true })
        },
      )
    }
    if (!shown && before) {
      waitFor(
        () => !document.querySelector(".st-key-viewer") && cardOf(before),
        card => {
          if (fine) card.focus({ preventScroll: true })
          if (innerWidth <= NARROW) card.scrollIntoView({ block: "center" })
        },
      )
    }
  }
  if (data.shard !== inside) {
    inside = data.shard
    if (inside && innerWidth <= NARROW) {
      waitFor(() => document.querySelector(".st-key-inside"), pane => pane.scrollIntoView({ block: "start" }))
    }
  }
  const escape = event => {
    if (event.key === "Escape" && !event.defaultPrevented && (data.hit || data.shard) && !isBusy()) setTriggerValue("close", true)
  }
  document.addEventListener("keydown", escape)
  return () => document.removeEventListener("keydown", escape)
}
