/** Repositories whose catalog is being mirrored just now: making their restore points goes before saying what holds of each. */
export class Mirroring {
  readonly #underWay = new Map<string, number>();

  isUnderWay(repository: string): boolean {
    return this.#underWay.has(repository);
  }

  async during<T>(repository: string, work: () => Promise<T>): Promise<T> {
    this.#underWay.set(repository, (this.#underWay.get(repository) ?? 0) + 1);
    try {
      return await work();
    } finally {
      const others = (this.#underWay.get(repository) ?? 1) - 1;
      if (others === 0) this.#underWay.delete(repository);
      else this.#underWay.set(repository, others);
    }
  }
}
