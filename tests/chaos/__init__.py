"""Jobs of every type under faults of every kind, and what must hold when the faults stop.

| file | what |
|---|---|
| `world.py` | what was ordered, and what was answered: an order that nobody answered is given again with its key |
| `orders.py` | the kinds of orders, and which of them can be given now |
| `faults.py` | the kinds of faults, and what makes them at random |
| `node.py` | what the node really has, read past its scripts |
| `checks.py` | what must hold afterwards, one function each |
"""
