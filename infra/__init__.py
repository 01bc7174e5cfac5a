"""The Pulumi program: reads one stack's settings and wires the components into an environment."""
