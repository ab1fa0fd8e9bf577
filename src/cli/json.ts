// JSON as QEMU prints it: four spaces, an empty list over two lines, ASCII alone.

export function qemuJson(value: unknown): string {
  const text = JSON.stringify(value, null, 4).replace(/^( *)(.*)\[\](,?)$/gm, '$1$2[\n$1]$3');
  // Line breaks of the text itself stay; those of strings are escaped already.
  return text.replace(/\\\\|\\u[0-9a-f]{4}|[^\n -~]/g, (found) => {
    if (found === '\\\\') return found;
    const unit = found.length > 1 ? found.slice(2) : found.charCodeAt(0).toString(16);
    return `\\u${unit.toUpperCase().padStart(4, '0')}`;
  });
}
