export interface AuditFinding {
  readonly id: string;
  readonly package: string;
  readonly severity: string;
  readonly title: string;
  readonly range: string;
}
export function findingsOf(report: unknown): AuditFinding[] | null;
export function judge(
  findings: readonly AuditFinding[],
  allowed: Readonly<Record<string, string>>,
): { readonly lines: readonly string[]; readonly ok: boolean };
