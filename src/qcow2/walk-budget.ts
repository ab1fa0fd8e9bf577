// How much more a walk over L2 tables looks at than an image of sound tables has: tables that many
// entries share, and those that lie across each other. A small file has room for years of that.

/** Entries of L2 tables. */
const MAX_ENTRIES = 2 ** 24;
/** So many take as long as reading their table does. */
const READ = 1024;

export class WalkBudget {
  #left = MAX_ENTRIES;

  /** False where it is used up. */
  spend(entries: number): boolean {
    const cost = Math.max(entries, READ);
    if (this.#left < cost) return false;
    this.#left -= cost;
    return true;
  }
}
