// Names of backing files that would lead elsewhere, or nowhere, when the image is opened the next
// time. QEMU stores them; here they are refused, unless they are meant so.

import type { Chain } from '../chain/chain.ts';
import { isAbsolute, protocolOf, resolveName } from '../chain/filename.ts';
import { openChain } from '../chain/open.ts';
import { ImageError, isMachineFault } from '../errors.ts';
import type { Host } from '../io/host.ts';
import type { Refuse } from './range.ts';
import { asSeenFromHere, resolveBacking } from './rebase-backing.ts';
import type { RebaseOptions } from './rebase-options.ts';

const FORCE = 'or use --force to store it all the same';

/** Refuses what can be known to be wrong. `name` is stored as it is. */
export async function checkName(
  chain: Chain,
  name: string,
  options: RebaseOptions,
  refuse: Refuse,
): Promise<void> {
  const { host } = options;
  const rest = protocolOf(name) === 'file' ? name.slice('file:'.length) : undefined;
  if (rest !== undefined && !isAbsolute(rest)) {
    refuse(
      nameError(
        name,
        "a relative name after 'file:' is seen from the working directory of whoever opens it",
        `Leave 'file:' out, so that it is seen from the directory of the image, ${FORCE}.`,
      ),
    );
  }
  await checkThroughLink(host, chain.at(0).filename, name, refuse);
  if (options.unsafe) await checkUnseen(chain, name, options, refuse);
}

/** Through a symbolic link, and by the name of the file itself, it must mean the same. */
async function checkThroughLink(
  host: Host,
  filename: string,
  name: string,
  refuse: Refuse,
): Promise<void> {
  if (isAbsolute(name) || protocolOf(name) !== null) return;
  if ((await host.identify(filename)) === undefined) return;
  const real = await host.realPath(filename);
  const seen = (await host.identify(resolveName(filename, name)))?.id;
  if (seen === undefined || seen === (await host.identify(resolveName(real, name)))?.id) return;
  refuse(
    nameError(
      name,
      `'${filename}' is a link to '${real}', and seen from there it is another file or none`,
      `Name the image by '${real}', and the backing file as seen from there, ${FORCE}.`,
    ),
  );
}

/** Without a look at the data, the file is to be there at least, in that format. */
async function checkUnseen(
  chain: Chain,
  name: string,
  options: RebaseOptions,
  refuse: Refuse,
): Promise<void> {
  const why = await whyNotOpened(resolveBacking(chain.at(0), name), options);
  if (why === undefined) return;
  const advice = (await asSeenFromHere(chain, name, options.host)) ?? 'Look at name and format';
  refuse(nameError(name, why, `${advice}, ${FORCE}.`));
}

async function whyNotOpened(
  file: string,
  { host, backingFormat: format }: RebaseOptions,
): Promise<string | undefined> {
  const look = { host, forceShare: true, describe: true, single: true };
  try {
    await (await openChain(file, { ...look, ...(format !== undefined && { format }) })).close();
    if (format !== 'raw') return undefined;
    const probed = await openChain(file, look);
    await probed.close();
    return probed.top.format === 'qcow2'
      ? 'its content is a qcow2 image, and as raw its tables would be taken for data'
      : undefined;
  } catch (error) {
    if (!(error instanceof ImageError) || isMachineFault(error)) throw error;
    // Formats that QEMU has and we don't can't be looked at.
    return error.code === 'unsupported' ? undefined : error.message;
  }
}

function nameError(name: string, why: string, hint: string): ImageError {
  return new ImageError('invalid', `'${name}' would be a wrong name: ${why}`, { hint });
}
