// How much more a walk over L2 tables looks at than an image of sound tables has: tables that many
// entries share, and those that lie across each other. A small file has room for years of that.

/** Entries of L2 tables. */
const MAX_ENTRIES = 2 ** 24;

export class WalkBudget {
  #left = MAX_ENTRIES;

  /** False where it is used up. */
  spend(entries: number): boolean {
    if (this.#left < entries) return false;
    this.#left -= entries;
    return true;
  }
}
