"""What a pass is: what it needs, what it does, what it guarantees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from nanonet_edge.graph import Graph, GraphError, Node, rebuild


@dataclass(frozen=True)
class PassResult:
    """`graph` after the pass; `changes`, how many places it rewrote (0: nothing to do)."""

    graph: Graph
    changes: int


class Pass(ABC):
    """A rewrite that leaves the function of a graph as it is, up to float rounding.

    Subclasses give `name`, the operations that must be gone before (`without`) and those that
    are gone after (`removes`), whether the output keeps its shape, and the rewrite itself.
    """

    name: ClassVar[str]
    without: ClassVar[frozenset[str]] = frozenset()
    removes: ClassVar[frozenset[str]] = frozenset()
    keeps_shape: ClassVar[bool] = True

    def run(self, graph: Graph) -> PassResult:
        """Apply the pass, checking its conditions.

        Raises:
            GraphError: a precondition or a postcondition does not hold, or the pass changed the
                shape of the output.
        """
        self._check(graph, self.without, "needs a graph without")
        nodes = {node.name: node for node in graph}
        changes = self._rewrite(graph, nodes)
        output = self._output(graph)
        result = rebuild(nodes.values(), output) if changes else graph
        self._check(result, self.removes, "left")
        before, after = graph.shapes()[graph.output], result.shapes()[result.output]
        if self.keeps_shape and before != after:
            raise GraphError(f"pass {self.name}: the output's shape {before} became {after}")
        return PassResult(result, changes)

    @abstractmethod
    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        """Change `nodes` (name to node) in place; return how many places were rewritten.

        The node that ends a rewritten pattern keeps its name, so that its readers need no
        change; nodes that nothing reads any more are dropped afterwards.
        """

    def _output(self, graph: Graph) -> str:
        """The name of the output after the rewrite."""
        return graph.output

    def _check(self, graph: Graph, ops: frozenset[str], verb: str) -> None:
        if found := ops & set(graph.ops()):
            raise GraphError(f"pass {self.name}: {verb} {', '.join(sorted(found))}")
