"""What the real TensorBoard reads from our event file. `pip install tensorboard`, then, in the project's folder:
node -e 'import("./dist/test/monitoring/made-events.js").then((m) => process.stdout.write(m.madeEvents()))' > DIR/events.out.tfevents.1
python test/monitoring/recorded/read-events.py DIR > test/monitoring/recorded/tensorboard.json"""

import hashlib
import json
import pathlib
import sys

from tensorboard import version
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

folder = pathlib.Path(sys.argv[1])
(file,) = folder.iterdir()
reader = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
reader.Reload()
scalars = {}
for tag in reader.Tags()["scalars"]:
    scalars[tag] = [[e.step, e.wall_time, repr(e.value)] for e in reader.Scalars(tag)]
result = {
    "tensorboard": version.VERSION,
    "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    "fileVersion": reader.file_version,
    "scalars": {
        tag: {"count": len(found), "first": found[0], "middle": found[len(found) // 2], "last": found[-1]}
        for tag, found in scalars.items()
    },
}
print(json.dumps(result, indent=2))
