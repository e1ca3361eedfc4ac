/** Keep the end of the conversation in view while it grows, unless the user has scrolled up. */

import { byId } from "./dom.js";

/** Pixels from the end that still count as being at the end. */
const NEAR = 56;

export class Scroller {
  private readonly frame = byId("scroller");
  private readonly jump = byId<HTMLButtonElement>("jump");
  private following = false;
  private top = 0;

  constructor() {
    this.frame.addEventListener("scroll", () => this.look(), { passive: true });
    this.jump.addEventListener("click", () => this.toEnd());
    const grown = new ResizeObserver(() => {
      if (this.following) this.frame.scrollTop = this.frame.scrollHeight;
      this.look();
    });
    grown.observe(this.frame);
    for (const child of this.frame.children) grown.observe(child);
  }

  /** Show the beginning, for an empty conversation. */
  toStart(): void {
    this.following = false;
    this.frame.scrollTop = 0;
    this.jump.hidden = true;
  }

  /** Show the end, and follow it from now on. */
  toEnd(): void {
    this.following = true;
    this.frame.scrollTop = this.frame.scrollHeight;
    this.jump.hidden = true;
  }

  private look(): void {
    const { scrollHeight, scrollTop, clientHeight } = this.frame;
    // Distance from the end proves nothing, since the answer may have grown; scrolling up does.
    if (scrollHeight - scrollTop - clientHeight < NEAR) this.following = true;
    else if (scrollTop < this.top) this.following = false;
    this.top = scrollTop;
    this.jump.hidden = this.following || byId("thread").childElementCount === 0;
  }
}
