// Keeps V8 from doubling the room for young objects, up to 48 MiB, while much is allocated that is
// soon forgotten: that room is all that it would bring to a program that works window by window. Nor
// may what outlived that room by chance grow to several times what is in use.

/** Settings of the whole process, for commands. Node.js 20 to 26 know them. */
export async function keepYoungHeapSmall(): Promise<void> {
  const { setFlagsFromString } = await import('node:v8');
  setFlagsFromString('--semi-space-growth-factor=1');
  setFlagsFromString('--heap-growing-percent=40');
}
