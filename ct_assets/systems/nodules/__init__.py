"""Lung nodules in CT: annotations, detection, findings, and evaluation by the rules of LUNA16."""
