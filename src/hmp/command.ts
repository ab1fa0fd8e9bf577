// A command of the human monitor: its name, what follows it, and its help.

/** Of one kind each; the words of QEMU when it is not there are with the kinds in arguments.ts. */
export type ArgumentKind = 'device' | 'text' | 'size' | 'flag';

export interface Argument {
  readonly name: string;
  readonly kind: ArgumentKind;
  /** For flags: the letter after the dash. */
  readonly letter?: string;
  readonly optional?: true;
}

export type Given = Readonly<Record<string, string | number | boolean | undefined>>;

export interface HmpCommand {
  /** With all its spellings: `quit|q`. */
  readonly name: string;
  readonly arguments: readonly Argument[];
  /** The arguments as the help shows them. */
  readonly shown: string;
  readonly about: string;
  /** Those that come after this one's name; without one of them it is help. */
  readonly below?: readonly HmpCommand[];
  /** The text that it prints, with a line break at its end. Throws what `errorText` understands. */
  run?(given: Given): Promise<string> | string;
}

export function spellings({ name }: HmpCommand): readonly string[] {
  return name.split('|');
}
