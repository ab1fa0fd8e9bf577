export function typesFingerprint(dir?: string): string;
