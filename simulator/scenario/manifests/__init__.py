"""Readers of Kubernetes manifests, as users have them."""

from simulator.scenario.manifests.deployment import DeploymentManifest, load_deployment
from simulator.scenario.manifests.hpa import HpaManifest, load_hpa

__all__ = ["DeploymentManifest", "HpaManifest", "load_deployment", "load_hpa"]
