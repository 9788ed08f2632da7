import { type AgentResult, ContractError, parseAgentResult } from "../../api/index.ts";

/** What an agent's last word says. One that cannot be read is a failure like others. */
export function resultOf(message: string): AgentResult {
  try {
    return parseAgentResult(message);
  } catch (thrown) {
    if (!(thrown instanceof ContractError)) throw thrown;
    return { version: 1, outcome: "Failed", reason: "Internal", message: thrown.message, retryable: true };
  }
}
