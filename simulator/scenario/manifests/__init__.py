"""Readers of Kubernetes manifests, as users have them."""

from simulator.scenario.manifests.deployment import Deployment, load_deployment
from simulator.scenario.manifests.hpa import HorizontalPodAutoscaler, load_hpa

__all__ = ["Deployment", "HorizontalPodAutoscaler", "load_deployment", "load_hpa"]
