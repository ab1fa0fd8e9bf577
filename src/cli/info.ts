// qimg-ts info: describes an image, or each image of a backing chain.

import type { ChainLayer } from '../chain/chain.ts';
import { resolveName } from '../chain/filename.ts';
import { concernsOf } from '../chain/safety.ts';
import type { Secrets } from '../chain/secrets.ts';
import { ImageError } from '../errors.ts';
import type { Host } from '../io/host.ts';
import { patientHost } from '../nbd/node-host.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { type Description, describeImage } from './describe-image.ts';
import { infoText } from './info-text.ts';
import { qemuJson } from './json.ts';
import { openNamed, warner } from './open-named.ts';
import { type NamedImage, namedImage, newCommand, parseVerb } from './options.ts';
import type { ProgramContext } from './program.ts';
import { objects, readSecrets } from './secrets.ts';
import { type TrustFlags, trusted, withTrust } from './trust.ts';
import { visibleIn } from './visible.ts';

interface Flags extends TrustFlags {
  readonly object?: readonly string[];
  readonly imageOpts?: boolean;
  readonly format?: string;
  readonly output: string;
  readonly backingChain?: boolean;
  readonly forceShare?: boolean;
  readonly safety?: boolean;
}

export async function runInfo(argv: readonly string[], program: ProgramContext): Promise<number> {
  const command = newCommand(program, 'info', 'FILENAME')
    .description('Describe an image, or each image of its backing chain.')
    .option('-f, --format <fmt>', 'format of the image; without it, probed')
    .option('--output <format>', 'human or json', 'human')
    .option('--backing-chain', 'go on to the backing files')
    .option('-U, --force-share', 'open the image although another process writes to it')
    .option('--object <object>', 'define an object (secret, tls-creds-x509)', objects)
    .option('--safety', 'also tell what the image could reach or do')
    .option('--image-opts', 'FILENAME is a list of options');
  const { flags, operands } = parseVerb<Flags>(withTrust(command), argv, program);
  const secrets = await readSecrets(flags.object);
  const [operand] = operands;
  if (operand === undefined || operands.length > 1) {
    return program.usageError('Expecting one image file name');
  }
  if (flags.output !== 'human' && flags.output !== 'json') {
    throw new ImageError('invalid', '--output must be used with human or json as argument.');
  }
  const named = namedImage(operand, flags, program);
  const images = await describeChain(named, flags, secrets, program);
  if (flags.output === 'json') {
    const value = flags.backingChain ? images : images[0];
    // Apart: together, a long text would be in memory twice.
    program.out(qemuJson(value));
    program.out('\n');
  } else {
    const shown = program.asQemu ? images : images.map(visibleIn);
    program.out(shown.map(infoText).join('\n'));
  }
  return 0;
}

/** Each image is opened by itself: what can't be read as a chain can still be described. */
async function describeChain(
  named: NamedImage,
  flags: Flags,
  secrets: Secrets,
  program: ProgramContext,
): Promise<readonly Description[]> {
  const images: Description[] = [];
  const seen = new Set<string>();
  const host = trusted(patientHost, flags, program);
  let next: Next | undefined = named;
  while (next !== undefined) {
    const chain = await openNamed(next, {
      host,
      forceShare: flags.forceShare === true,
      secrets,
      onWarning: warner(program),
    });
    try {
      const top = chain.at(0);
      if (seen.has(top.id)) {
        throw new ImageError('invalid', `Backing file '${next.label}' creates an infinite loop.`);
      }
      seen.add(top.id);
      images.push({
        ...(await describeImage(top)),
        ...(flags.safety && (await safety(top, host))),
      });
      const below = flags.backingChain ? backingOf(top) : undefined;
      if (below !== undefined) await host.checkNamed?.(below.stored, below.filename);
      next = below;
    } finally {
      await chain.close();
    }
  }
  return images;
}

/** A list of its own, behind what QEMU tells. */
async function safety(top: ChainLayer, host: Host): Promise<Description> {
  const concerns = await concernsOf(top, host);
  return { safety: concerns.map(({ kind, about }) => ({ kind, about })) };
}

type Next = Pick<NamedImage, 'filename' | 'format' | 'label' | 'options'>;

function backingOf({
  filename: above,
  layer,
}: ChainLayer): (Next & { readonly stored: string }) | undefined {
  if (!(layer instanceof Qcow2Image) || layer.header.backingFile === null) return undefined;
  const { backingFile, backingFormat } = layer.header;
  const filename = resolveName(above, backingFile);
  return {
    filename,
    label: filename,
    stored: backingFile,
    ...(backingFormat !== null && { format: backingFormat }),
  };
}
