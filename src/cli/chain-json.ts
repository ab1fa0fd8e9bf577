// A surveyed chain as JSON. The members are an interface: none goes, none changes its meaning.

import type { Survey, SurveyedLayer } from '../chain/survey.ts';

export function chainToJson(survey: Survey): string {
  const value = {
    'virtual-size': survey.size,
    broken: isBroken(survey),
    layers: survey.layers.map((layer, depth) => layerToJson(layer, depth)),
    unread: survey.unread,
  };
  return `${JSON.stringify(value, null, 4)}\n`;
}

/** Not all of the guest's disk can be read. */
export function isBroken({ layers }: Survey): boolean {
  return layers.some(({ problems }) => problems.some(({ severity }) => severity === 'error'));
}

function layerToJson(layer: SurveyedLayer, depth: number): unknown {
  const { filename, storedName, opened, held, problems, siblings } = layer;
  return {
    depth,
    filename,
    'stored-name': storedName,
    format: opened?.format ?? null,
    'format-origin': opened?.formatOrigin ?? null,
    'virtual-size': opened?.size ?? null,
    'cluster-size': opened?.clusterSize ?? null,
    'file-length': opened?.fileBytes ?? null,
    'actual-size': opened?.allocatedBytes ?? null,
    'data-bytes': held.data,
    'hidden-data-bytes': held.hiddenData,
    'zero-bytes': held.zero,
    'hidden-zero-bytes': held.hiddenZero,
    'unknown-bytes': held.unknown,
    siblings,
    problems: problems.map(({ kind, severity, message, hint }) => ({
      kind,
      severity,
      message,
      hint,
    })),
  };
}
