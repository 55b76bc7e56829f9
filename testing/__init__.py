"""What tests and benchmarks share: small worlds with a model beside them, faults, damage, crowds, and the app in a browser."""
