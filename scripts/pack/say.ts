// How the packing scripts speak to people: one line for what goes on now, in the words of every other script here.

/** Says what is going on now. */
export function say(text: string): void {
  console.log(`kcopyd: ${text}`);
}

/** Bytes for people: `826,520 bytes`. */
export function bytes(count: number): string {
  return `${count.toLocaleString('en')} bytes`;
}

/** An error for people, on one line. */
export function oneLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).trim().replaceAll(/\s+/g, ' ');
}
