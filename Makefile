# The only commands that anyone needs. Each gets what it lacks first: uv, Python packages, built programs.
.DEFAULT_GOAL := help
SHELL := /bin/bash
STACK ?= local
BASE ?= origin/main
PROMPT ?= In one sentence, what is a GPU?
export PROMPT

UV = $$(bash local/toolchain/bootstrap.sh)
RUN = $(UV) run --quiet --frozen
LOCAL = $(RUN) python -m local

.PHONY: help up down status ask preview preview-comment schema plan dashboards destroy reset test unit check format bench verify-embedder tools kubectl

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: ## Bring a whole environment up on this machine, and ask its model a question
	@$(LOCAL) up

down: ## Stop the environment; its state is kept for the next `make up`
	@$(LOCAL) down

status: ## Show what runs, where, and its health
	@$(LOCAL) status

ask: ## Ask the model a question: make ask PROMPT="..."
	@$(LOCAL) ask

preview: ## Preview a stack on the real engine with no credentials: make preview STACK=dev
	@$(LOCAL) preview $(STACK) $(if $(JSON),--json)

preview-comment: ## Say what the changes since BASE do to each stack: make preview-comment BASE=origin/main
	@$(LOCAL) preview-comment $(BASE) $(if $(filter command line environment,$(origin STACK)),$(STACK)) $(if $(JSON),--json)

schema: ## Write the JSON Schema of stack files, for editors
	@$(RUN) python -m infra.schema

plan: ## Show what a stack runs where, and what it costs: make plan STACK=prod
	@$(RUN) llm-serving plan --stack stacks/Pulumi.$(STACK).yaml

destroy: ## Destroy every resource of the environment, then stop it
	@$(LOCAL) destroy

reset: ## Stop the environment and delete its state
	@$(LOCAL) reset

test: ## Run every test: checks, then fast tests, then the real engine and environment
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) pyright
	@$(LOCAL) test

unit: ## Run the fast tests only
	@$(RUN) pytest -m "not local and not environment" --numprocesses=auto

check: ## Lint, format check and types
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) pyright

format: ## Format the code
	@$(RUN) ruff format .
	@$(RUN) ruff check --fix .

dashboards: ## Draw every dashboard from the environment's Prometheus, as HTML and PNG
	@$(LOCAL) dashboards

bench: ## Measure checks, previews, the gateway, services, start-up, memory, a push, the cache; writes bench/
	@PYTHONPATH=images/embedder:images/http-service:images/llm-gateway $(LOCAL) bench

verify-embedder: ## Compare the embedder's two backends over 200 sentences; the first time it installs PyTorch, 5 GB
	@PYTHONPATH=images/embedder:images/http-service $(RUN) python -m local.verify_embedder $(if $(JSON),--json $(JSON))

tools: ## Build every program that the environment and the tests need
	@$(LOCAL) tools
