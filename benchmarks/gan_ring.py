"""A reference game on the ring, one that collapses and one that never settles, over seeds: the data of chapter 13's ring.

    python benchmarks/gan_ring.py                                                    one seed of each, a minute
    python benchmarks/gan_ring.py --seeds 5 --out gencourse/records/13-ring.json     five minutes on one core

Every record of the file is one run; records of other games and seeds stay. `--threads` sets torch's, for the question whether
a finding hangs on the order of a sum.
"""

import argparse
from pathlib import Path

import torch

from gencourse import records
from gencourse.adversarial.ring import GAMES, play


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", choices=list(GAMES), default=list(GAMES))
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    content = records.begin(chosen.out)
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        for game in chosen.games:
            record = play(game, seed=seed, rounds=chosen.rounds)[2] | {"threads": chosen.threads}
            same = ("game", "seed", "threads")
            content["runs"] = [run for run in content["runs"] if any(run[key] != record[key] for key in same)] + [record]
            print(", ".join(f"{key} {value}" for key, value in record.items()), flush=True)
            records.write(chosen.out, content)


if __name__ == "__main__":
    main()
