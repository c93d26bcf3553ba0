"""A trained Run -> the network as ONNX, and the bundle that is shipped.

``export_network(run, config, workspace, cases)`` writes run/network.onnx and network.json, or nothing if ONNX Runtime
does not answer as torch does on real cases. ``export_bundle(run, config, workspace)`` puts it with its evaluation and
provenance into bundles/NAME/VERSION/: model.onnx, bundle.json, card.md.
"""

from medrail.export.bundle import export_bundle
from medrail.export.network import export_network

__all__ = ["export_bundle", "export_network"]
