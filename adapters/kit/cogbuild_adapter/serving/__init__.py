"""Programs that run beside a model and serve it over another protocol than Cog's. Standard library only.

What is here is copied into images and folders, as a package of any name: modules import each other relatively and
nothing else of the kit.
"""
