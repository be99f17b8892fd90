"""The OCI image and distribution formats: references, descriptors, manifests, configurations."""
