// Several pieces of work at once, ahead of whoever takes what comes of them.

/** What comes of the items, in their order; at most `most` are worked on at once. */
export async function* inOrder<T, R>(
  items: AsyncIterable<T>,
  most: number,
  work: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const running: Promise<R>[] = [];
  try {
    for await (const item of items) {
      const oldest = running.length === most ? running.shift() : undefined;
      if (oldest !== undefined) yield await oldest;
      const next = work(item);
      // It is thrown in its turn, or not at all where an earlier one failed.
      next.catch(() => undefined);
      running.push(next);
    }
    for (let next = running.shift(); next; next = running.shift()) yield await next;
  } finally {
    await Promise.allSettled(running);
  }
}
